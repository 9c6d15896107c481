"""Every family, by the same commands: train, resume, extract, score, export."""

import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import RATE
from tiny import ROOT, words_of
from torch.testing import assert_close

import models
import train
from bandsplit import BandSplitArgs
from dptnet import DPTNetArgs
from extractor import UserError, checkpoint, sigma
from extractor.optim import make_optimizers
from flow import FlowArgs
from fullband import FullBandArgs
from rwkvnet import RWKVNetArgs

FOURIER = {"kernel": 32, "n_filters": 64, "fourier": True}
PATHS = {"bottleneck": 16, "n_blocks": 1, "n_heads": 2, "chunk_frames": 16}
SPECTRAL = {"n_fft": 128, "hop": 32}
BANDS = {"bands": ((500.0, 62.5), (1000.0, 250.0)), "width": 8, "n_blocks": 1, "n_heads": 2, "hidden": 8}
PREDICTOR = FullBandArgs(RATE, **SPECTRAL, n_bands=20, width=16, hidden=8, n_layers=1)
SMALL = {
    "fullband": PREDICTOR,
    "bandsplit, attention, sigma-reparam": BandSplitArgs(
        RATE, **SPECTRAL, **BANDS, mixer="attention", sigma_reparam=True
    ),
    "bandsplit, lstm": BandSplitArgs(RATE, **SPECTRAL, **BANDS, mixer="lstm"),
    "bandsplit, rwkv7": BandSplitArgs(RATE, **SPECTRAL, **BANDS, mixer="rwkv7"),
    "dptnet": DPTNetArgs(RATE, **FOURIER, **PATHS, hidden=16),
    "dptnet, sigma-reparam": DPTNetArgs(RATE, **FOURIER, **PATHS, hidden=16, sigma_reparam=True),
    "rwkvnet": RWKVNetArgs(RATE, **FOURIER, **PATHS),
    "flow": FlowArgs(PREDICTOR, n_bands=20, n_fine=10, width=16, hidden=8, n_layers=1, steps=2),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Runs a script as a user does, in `folder`; returns what it printed. No process of its own: torch is slow."""
    monkeypatch.chdir(folder)

    def run(script: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def train_words(name: str, recordings: Path, steps: int) -> list:
    start = ["--init-from", "runs/fullband/best.pt"] if name == "flow" else []
    return [
        "--name", name.replace(", ", "_"), "--data.clean", recordings / "clean/alice",
        "--data.dirty", recordings / "dirty/other", "--data.segment-s", 0.5, "--data.n-valid", 4, "--steps", steps,
        "--batch-size", 2, "--warmup", 1, "--valid-every", 2, "--workers", 0, "--device", "cpu",
        *start, *words_of(SMALL[name]),
    ]


@pytest.fixture
def trained(run, folder, recordings):
    """trained(names, ...): each is trained, resumed and exported, once for all tests. -> the last one's best.pt"""
    def trained(*names: str) -> str:
        for name in names:
            best = f"runs/{name.replace(', ', '_')}/best.pt"
            if not (folder / f"{name}.pt").exists():
                if name == "flow":
                    trained("fullband")
                assert "step 0 to 2" in run("train.py", *train_words(name, recordings, 2))
                assert "step 2 to 4" in run("train.py", *train_words(name, recordings, 4))
                run("tools/export.py", "--checkpoint", best, "--out", f"{name}.pt")
        return best

    return trained


@pytest.mark.parametrize("name", SMALL)
def test_a_net_is_trained_resumed_used_scored_and_exported(name, trained, run, folder, recordings):
    best = trained(name)
    assert models.saved_args(checkpoint.load(folder / best), best) == SMALL[name]

    recording, noise = recordings / "dirty/other/game/src_0.flac", sf.read(recordings / "dirty/other/voices/bob.wav")
    for out, source in (("trained", best), ("exported", f"{name}.pt")):
        run("infer.py", "--checkpoint", source, "--inputs", recording, "--out-dir", f"{out}/{name}", "--page-s", 0)
    trained, exported = (sf.read(folder / out / name / "src_0.wav") for out in ("trained", "exported"))
    assert trained[1] == RATE and len(trained[0]) == sf.info(recording).frames
    assert 0 < np.abs(trained[0]).max() < 1
    np.testing.assert_allclose(exported[0], trained[0], rtol=0, atol=1e-6 * np.abs(trained[0]).max())
    assert (folder / f"{name}.pt").stat().st_size < 0.5 * (folder / best).stat().st_size

    for kind in ("mixture", "target"):
        (folder / "pairs" / kind).mkdir(parents=True, exist_ok=True)
        sf.write(folder / "pairs" / kind / "a.wav", sf.read(recording)[0] * (kind == "mixture") + noise[0], RATE)
    scored = run(
        "evaluate.py", "--systems", best, f"{name}.pt", "--pairs", "pairs", "--out-dir", f"results/{name}",
        "--perceptual", False, "--page", False,
    )
    assert f"\n| {name.replace(', ', '_')} |" in scored and f"\n| {name} |" in scored


@pytest.mark.parametrize("name", SMALL)
def test_an_exported_net_has_plain_weights(name, trained, folder):
    trained(name)
    state = checkpoint.load(folder / f"{name}.pt")
    assert not [key for key in state["ema"] if "parametrizations" in key]
    assert not state["args"]["model"].get("sigma_reparam")
    net, family = models.load(folder / f"{name}.pt")
    assert family is models.FAMILIES[name.split(",")[0]]
    assert_close(net.state_dict(), state["ema"], rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in SMALL if "sigma" in name])
def test_averaged_weights_are_saved_with_their_own_spectral_norms(name, trained, folder):
    path = folder / trained(name)
    state = checkpoint.load(path)
    net = models.FAMILIES[state["family"]].net(SMALL[name])
    net.load_state_dict(state["ema"])
    for module, reparam in sigma.parametrized(net):
        matrices = reparam.matrices(module.parametrizations.weight.original)
        assert_close(reparam.sigma(matrices), torch.linalg.matrix_norm(matrices, 2), rtol=1e-5, atol=0)

    expected = models.load(path)[0].state_dict()
    for key in [key for key in state["ema"] if key.endswith((".u", ".v"))]:
        state["ema"][key] = torch.nn.functional.normalize(torch.rand_like(state["ema"][key]), dim=1)
    checkpoint.save(folder / "stale.pt", state)
    assert_close(models.load(folder / "stale.pt")[0].state_dict(), expected, rtol=1e-5, atol=1e-7)


def test_training_does_not_go_on_from_what_was_exported(trained, run, folder, recordings):
    trained("fullband")
    (folder / "runs/moved").mkdir(parents=True)
    shutil.copy(folder / "fullband.pt", folder / "runs/moved/last.pt")
    words = train_words("fullband", recordings, 4)
    words[words.index("--name") + 1] = "moved"
    with pytest.raises(UserError, match=r"last\.pt: exported for extraction, training cannot go on from it"):
        run("train.py", *words)


def test_an_export_does_not_write_over_what_training_goes_on_from_but_can_be_made_anew(trained, run):
    trained("fullband", "dptnet")
    words = ("tools/export.py", "--checkpoint", "runs/fullband/best.pt", "--out")
    for out in ("fullband/best.pt", "fullband/last.pt", "dptnet/best.pt"):
        with pytest.raises(UserError, match="pt: a checkpoint that training can go on from; choose another ExportArgs"):
            run(*words, f"runs/{out}")
    for _ in range(2):
        run(*words, "again.pt")


@pytest.mark.parametrize("there, here", [("dptnet", "fullband"), ("fullband", "bandsplit"), ("fullband", "rwkvnet")])
def test_a_run_of_another_family_is_named_and_left_alone(there, here, trained, run, folder, recordings):
    trained(there)
    words = train_words(next(n for n in SMALL if n.startswith(here)), recordings, 4)
    words[words.index("--name") + 1] = there
    before = (folder / "runs" / there / "last.pt").read_bytes()
    with pytest.raises(UserError, match=f"last.pt: a checkpoint of another net .family {there} there, {here} here"):
        run("train.py", *words)
    assert (folder / "runs" / there / "last.pt").read_bytes() == before


@pytest.mark.parametrize("start, fields, words", [
    ("dptnet", (), "dptnet/best.pt: cannot initialise .* .family dptnet there, fullband here"),
    ("fullband", ("--model.hidden", 9), "cannot initialise .* .hidden = 8 there, 9 here.; make these equal"),
])
def test_a_start_of_another_family_or_size_is_named(start, fields, words, trained, run, recordings):
    trained(start)
    with pytest.raises(UserError, match=words):
        run("train.py", *train_words("fullband", recordings, 4), "--name", "new", "--init-from",
            f"runs/{start}/best.pt", *fields)


def test_a_flow_holds_the_net_it_refines_as_that_was(trained, folder):
    trained("flow")
    flow, predictor = (checkpoint.load(folder / f"runs/{name}/best.pt")["ema"] for name in ("flow", "fullband"))
    held = {key.removeprefix("predictor."): value for key, value in flow.items() if key.startswith("predictor.")}
    assert_close(held, dict(predictor), rtol=0, atol=0)


def test_a_flow_goes_on_when_the_net_that_it_refines_is_gone(trained, run, folder, recordings):
    trained("flow")
    words = train_words("flow", recordings, 6)
    (folder / "runs/fullband").rename(folder / "runs/elsewhere")
    try:
        assert "step 4 to 6" in run("train.py", *words)
    finally:
        (folder / "runs/elsewhere").rename(folder / "runs/fullband")


@pytest.mark.parametrize("start, message", [
    (["--init-from", "runs/dptnet/best.pt"], "cannot initialise .* give a trained fullband or bandsplit net"),
    ([], "MainArgs.init_from = '': this net starts from a trained"),
])
def test_a_flow_without_a_net_that_it_can_refine_is_refused(start, message, trained, run, recordings):
    trained("dptnet")
    words = train_words("flow", recordings, 4)
    at = words.index("--init-from")
    with pytest.raises(UserError, match=message):
        run("train.py", *words[:at], *start, *words[at + 2 :], "--name", "new")


def test_what_a_step_costs_and_how_many_a_flow_takes_may_change(trained, folder):
    path, small = folder / trained("flow").replace("best", "last"), SMALL["flow"]
    state = checkpoint.load(path)
    cheaper = replace(small, steps=7, predictor=replace(small.predictor, checkpointing=True))
    assert models.differences(path, state, cheaper) == []
    assert models.differences(path, state, replace(small, sigma=0.7)) == ["sigma = 0.5 there, 0.7 here"]
    (other,) = models.differences(path, state, replace(small, predictor=replace(small.predictor, hop=16)))
    assert other.startswith("predictor = {") and "'hop': 16" in other


def test_args_of_no_family_are_named():
    with pytest.raises(UserError, match="MainArgs.model is a MainArgs: give one of FullBandArgs, BandSplitArgs"):
        models.family_name(train.MainArgs())


def test_every_preset_has_the_name_of_its_family_and_the_rate_of_all():
    assert len(models.PRESETS) == sum(len(family.presets) for family in models.FAMILIES.values()) > 10
    for name, args in models.PRESETS.items():
        assert models.family_name(args) == name.split("-")[0]
        assert args.sample_rate == 44100


DUAL_PATH = {"layers", "head", "value", "gate"}
INSIDE = {
    "fullband": {"layers", "hidden"}, "bandsplit": {"paths"}, "dptnet": DUAL_PATH, "rwkvnet": DUAL_PATH,
    "flow": {"layers", "time"},
}


@pytest.mark.parametrize("name", SMALL)
def test_the_ends_of_a_net_are_named_and_something_is_left_for_muon(name):
    net = models.FAMILIES[name.split(",")[0]].net(SMALL[name])
    assert {*net.muon_excluded} <= {path for path, _ in net.named_modules()}
    _, muon = make_optimizers(net, lr=5e-4, muon=14.0, weight_decay=0.1)
    taken = {id(p) for p in muon.param_groups[0]["params"]}
    found = {path.removeprefix("denoiser.").split(".")[0] for path, p in net.named_parameters() if id(p) in taken}
    assert found == INSIDE[name.split(",")[0]]
