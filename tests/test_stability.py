"""bench/stability.py: what it says of a net's attention, and that it goes on where it was stopped."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import RATE
from tiny import NET

import train
from bench import stability
from bench.stability import BenchArgs, main, outcome, valid_loss
from dataset import MixtureArgs, MixtureDataset
from dptnet import DPTNet
from extractor import UserError, checkpoint
from extractor.material import find_material


@pytest.mark.parametrize("loss, ended, expected", [
    (-9.0, False, "trained"),
    (-7.55, False, "no better than silence"),  # within 0.1
    (-7.5, False, "no better than silence"),
    (3.0, False, "no better than silence"),
    (math.nan, False, "not finite"),
    (math.inf, False, "not finite"),
    (-9.0, True, "not finite"),
])
def test_a_run_diverged_if_it_was_ended_or_is_no_better_than_silence(loss, ended, expected):
    assert outcome(loss, -7.5, ended=ended) == expected


@pytest.fixture(scope="module")
def args(recordings, tmp_path_factory) -> BenchArgs:
    folder = tmp_path_factory.mktemp("stability")
    return BenchArgs(
        (f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",), factors=(1.0, 3.0), warmups=(2, 0), steps=10,
        batch_size=2, segment_s=0.5, every=5, n_valid=4, model=NET, runs=f"{folder}/runs", results=f"{folder}/results",
    )


@pytest.fixture(scope="module")
def done(args) -> dict:
    main(args)
    return numbers(args)


def numbers(args: BenchArgs) -> dict:
    return json.loads((Path(args.results) / "numbers.json").read_text())


def test_every_run_is_there_and_differs_as_it_should_and_no_path_is_told(args, done):
    runs = {(r["factor"], r["warmup"], r["sigma_reparam"]): r for r in done["runs"]}
    assert len(runs) == 8
    for run in runs.values():
        assert len(run["loss"]) == len(run["grad_norm"]) == 10
        assert [look[0] for look in run["entropy"]] == [0, 5, 10] and len(run["entropy"][0]) == 1 + 2
    assert len({run["loss"][0] for run in runs.values()}) == 1  # the same weights, the same items
    assert len({run["loss"][-1] for run in runs.values()}) == 8
    assert (Path(args.results) / "stability.png").read_bytes()[:4] == b"\x89PNG"
    assert "alice" not in (Path(args.results) / "numbers.json").read_text()


def test_a_second_run_goes_on_with_what_is_missing_and_prints_a_row_a_setting(args, done, capsys):
    missing = Path(args.runs) / "lr3-warmup0-sigma-seed0.json"
    missing.unlink()
    before = {path: path.stat().st_mtime_ns for path in Path(args.runs).iterdir()}
    main(args)
    assert {path: path.stat().st_mtime_ns for path in before} == before and missing.exists()
    assert numbers(args) == done
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 0.00")]
    assert [row.split(" | ")[:3] for row in rows] == [
        [f"| {lr}", warmup, weights]
        for lr in ("0.002", "0.006") for warmup in "20" for weights in ("plain", "sigma-reparam")
    ]


def test_runs_with_other_settings_are_not_mixed(args, done):
    with pytest.raises(UserError, match="other settings.*BenchArgs.runs"):
        main(replace(args, steps=5))


@pytest.mark.parametrize("sigma_reparam", [False, True])
def test_a_run_ends_with_the_weights_that_train_py_ends_with(args, done, tmp_path, sigma_reparam):
    wanted = {"factor": 3.0, "warmup": 2, "sigma_reparam": sigma_reparam}
    (record,) = (r for r in done["runs"] if wanted.items() <= r.items())
    data = MixtureArgs(args.clean, args.dirty, segment_s=0.5, n_valid=4)
    same = train.MainArgs(
        name="alice", runs=f"{tmp_path}/trained", data=data, model=replace(NET, sigma_reparam=sigma_reparam), lr=6e-3,
        weight_decay=1e-2, muon=0.0, warmup=2, steps=10, batch_size=2, valid_every=10, workers=0, device="cpu",
        precision="fp32",
    )
    train.main(same)
    net = DPTNet(same.model)
    net.load_state_dict(checkpoint.load(same.folder / "last.pt")["net"])
    held_out = MixtureDataset(find_material(data), data, RATE, split="valid")
    loss = valid_loss(net, [held_out[0, i] for i in range(4)], batch_size=2)
    assert record["valid_loss"] == pytest.approx(loss, rel=1e-5)


def test_a_run_that_blows_up_ends_and_says_so(args, tmp_path, capsys):
    folders = {"runs": f"{tmp_path}/runs", "results": f"{tmp_path}/results"}
    args = replace(args, factors=(1e36,), warmups=(0,), steps=20, **folders)
    main(args)
    for run in numbers(args)["runs"]:
        assert run["outcome"] == "not finite" and run["skipped"] == stability.MAX_BAD
        assert len(run["loss"]) == 1 + stability.MAX_BAD
    assert f"| 0 of 1 | not finite | 100% | {stability.MAX_BAD} |" in capsys.readouterr().out
