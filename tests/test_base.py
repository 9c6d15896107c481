"""The base that a new net starts from by itself: when it does, what it is, and what is said where it cannot."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from mixing import GAME_HZ, RATE, save, tone
from nets import FULLBAND, noise
from torch.testing import assert_close

import models
import train
from dataset import MixtureArgs
from extractor import UserError, checkpoint
from fullband import FullBand
from multispeaker import MultiSpeaker, MultiSpeakerArgs

ONE = replace(FULLBAND, sample_rate=RATE)


def keep(path: Path, family: str, net: FullBand):
    checkpoint.save(path, {"family": family, "args": {"model": asdict(net.args)}, "ema": net.state_dict()})


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    """The base of a small preset, for three speakers."""
    torch.manual_seed(0)
    net = MultiSpeaker(MultiSpeakerArgs(**asdict(ONE), n_speakers=3))
    with torch.no_grad():
        net.vectors.normal_(std=0.3)
    path = tmp_path / "small.pt"
    keep(path, "multispeaker", net)
    monkeypatch.setitem(models.PRESETS, "small", ONE)
    monkeypatch.setitem(models.BASES, "small", path)
    return path


@pytest.fixture
def args(tmp_path) -> train.MainArgs:
    save(tmp_path / "clean/src_0.wav", tone(10, 150))
    save(tmp_path / "dirty/game/a.wav", tone(10, GAME_HZ))
    data = MixtureArgs(
        (str(tmp_path / "clean"),), (str(tmp_path / "dirty"),), segment_s=0.2, speed=(1, 1), max_shift=0, n_valid=4
    )
    return train.MainArgs(
        runs=str(tmp_path / "runs"), name="alice", data=data, model=ONE, steps=2, batch_size=4, lr=1e-9, warmup=1,
        valid_every=2, workers=0, device="cpu",
    )


def test_a_run_of_its_preset_starts_from_it_and_goes_on_by_the_same_command(args, base, capsys):
    trained, _ = models.load(train.main(args))
    said = capsys.readouterr().out
    number = int(re.search(r"small\.pt: starts as the mean of 1 of its 3 speakers, number (\d)", said)[1])
    _, many = models.averaged(checkpoint.load(base), base)
    expected = many(noise(2, 500), torch.full((2,), number))
    assert_close(trained(noise(2, 500)), expected, rtol=0, atol=1e-5)
    base.unlink()  # what it once started from matters no more
    train.main(replace(args, steps=4))
    said = capsys.readouterr().out
    assert "step 2 to 4" in said and "starts as" not in said and "goes on from its own weights" not in said


@pytest.mark.parametrize("fields", [{"init_from": "none"}, {"model": replace(ONE, hop=8)}])
def test_with_none_and_with_other_args_the_first_weights_are_random(fields, args, base, capsys):
    args = replace(args, **fields)
    trained, _ = models.load(train.main(args))
    assert "starts as" not in capsys.readouterr().out
    torch.manual_seed(args.seed)
    assert_close(trained(noise(2, 500)), FullBand(args.model)(noise(2, 500)), rtol=0, atol=1e-5)


def test_what_costs_only_time_does_not_make_it_another_net(base):
    assert models.start_of(replace(ONE, checkpointing=True), "auto") == str(base)


@pytest.mark.parametrize("harm, why", [
    (lambda base: base.unlink(), "there is no such"),
    (lambda base: base.write_bytes(base.read_bytes()[:1000]), "damaged, or no"),
    (lambda base: keep(base, "fullband", FullBand(replace(ONE, width=8))), "width = 8 there, 16 here"),
], ids=["missing", "damaged", "foreign"])
def test_a_base_that_cannot_be_used_is_said_and_random_weights_are_taken_only_if_asked(harm, why, args, base):
    harm(base)
    with pytest.raises(UserError, match=rf"small\.pt: .*{why}.*; or start from random weights: MainArgs\.init_from"):
        train.main(args)
    assert not (args.folder / "last.pt").exists()
    assert train.main(replace(args, init_from="none")).exists()


# ---------------------------------------------------------------------------------------------------------------------
# the bases of this repository


def test_the_default_model_has_one():
    default = train.MainArgs()
    assert Path(models.start_of(default.model, default.init_from)).is_file()


@pytest.mark.parametrize("preset", models.BASES)
def test_it_is_for_many_speakers_and_holds_nothing_of_their_recordings(preset):
    state = checkpoint.load(models.BASES[preset])
    assert {*state} <= {"family", "step", "best", "bandwidth_hz", "versions", "args", "ema"}
    assert {*state["args"]} == {"model"}
    assert models.for_many(state, "") and all(w.isfinite().all() for w in state["ema"].values())


def test_all_together_are_small():
    assert sum(path.stat().st_size for path in models.BASES.values()) < 16e6


# ---------------------------------------------------------------------------------------------------------------------
# half precision


def test_a_net_of_halved_weights_is_half_the_size_and_the_same_net(base):
    whole, half = (models.exported(base, half=half) for half in (False, True))
    assert all(w.dtype == torch.float16 for w in half["ema"].values())
    nets = [FullBand(ONE), FullBand(ONE)]
    for net, state in zip(nets, (whole, half), strict=True):
        checkpoint.save(base, state)
        models.start_from(net, base)
    mixture = noise(2, 500)
    error = nets[1](mixture) - nets[0](mixture)
    assert next(nets[1].parameters()).dtype == torch.float32
    assert 0 < error.square().mean() < 1e-5 * mixture.square().mean()
