"""The race of the families, between two small nets."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE
from scored import put_list

from bench import race
from bench.families import cost
from bench.race import seconds_a_step
from dptnet import DPTNet, DPTNetArgs
from extractor import UserError, checkpoint, curves, sigma
from extractor.scoring import PRESENT
from fullband import FullBandArgs

SMALL = FullBandArgs(RATE, n_fft=128, hop=32, n_bands=20, width=16, hidden=8, n_layers=1)
NETS = {
    "small": {"model": SMALL, "batch_size": 2},
    "wide": {"model": replace(SMALL, width=24), "batch_size": 1},
}


@pytest.fixture
def args(recordings, tmp_path, monkeypatch) -> race.RaceArgs:
    monkeypatch.setattr(race, "CONTESTANTS", NETS)
    monkeypatch.setattr(race, "seconds_a_step", lambda run: 10.0 if "wide" in run.name else 5.0)
    return race.RaceArgs(
        (f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",), ("small", "wide"), minutes=1.0, workers=0,
        device="cpu", runs=f"{tmp_path}/runs", results=f"{tmp_path}/results",
    )


def steps_of(args: race.RaceArgs, run: str) -> int:
    return checkpoint.load(Path(args.runs) / run / "last.pt")["step"]


@pytest.mark.slow(30)
def test_each_gets_the_steps_that_fit_the_minutes_and_all_are_in_one_table(args, capsys):
    race.main(args)
    assert {name: steps_of(args, f"{name}_1min") for name in NETS} == {"small": 12, "wide": 6}
    printed = capsys.readouterr().out.split("\nwide\n")[1]
    assert re.findall(r"^\| (\w+) \|.*$", printed, re.M) == ["run", "small_1min", "wide_1min", "run"]
    saved = json.loads((Path(args.results) / "learning.json").read_text())
    for name in list(saved):
        seconds = 10.0 if name == "wide_1min" else 5.0
        minutes = [at for at, _ in saved[name]["curves"]["game"]]
        assert minutes == pytest.approx(np.linspace(0, 1, len(minutes) + 1)[1:], abs=0.006)
        assert len(minutes) == race.N_VALID / (2 if seconds == 10 else 1) and saved[name]["minutes"] == 1.0
        assert saved[name]["threads"] == torch.get_num_threads()
        batch_size = NETS[saved[name]["name"]]["batch_size"]
        assert saved[name]["audio_s_per_s"] == pytest.approx(batch_size * 4.0 / seconds, abs=0.06)
        (row,) = re.findall(rf"^\| {name} \(validation\) \| (.*) \|$", printed, re.M)
        assert row.split(" | ") == [f"{points[-1][1] + 0.0:+.1f}" for points in saved[name]["curves"].values()]
    assert (Path(args.results) / "learning.png").stat().st_size > 10_000


@pytest.mark.slow(25)
def test_a_run_that_was_planned_goes_on_with_its_own_number_of_steps(args, monkeypatch):
    race.main(replace(args, names=("small",)))
    monkeypatch.setattr(race, "seconds_a_step", lambda run: 1.0)  # a faster machine, or an idle one
    race.main(replace(args, names=("small",)))
    assert steps_of(args, "small_1min") == 12


def test_a_run_is_of_the_seed_and_the_recordings_it_was_planned_with(args):
    race.main(replace(args, names=("small",), minutes=0.1, seed=3))
    state = checkpoint.load(Path(args.runs) / "small_0.1min" / "last.pt")
    assert state["args"]["seed"] == state["args"]["data"]["seed"] == 3
    with pytest.raises(UserError, match=r"plan\.json: planned with seed = 3, not 4; give another RaceArgs.runs"):
        race.main(replace(args, names=("small",), minutes=0.1, seed=4))
    more = args.dirty + args.clean
    with pytest.raises(UserError, match=r"plan\.json: planned with dirty = \["):
        race.main(replace(args, names=("small",), minutes=0.1, seed=3, dirty=more))


@pytest.mark.slow(30)
def test_a_race_joins_those_of_earlier_days_and_of_other_lengths(args, capsys):
    race.main(replace(args, names=("small",), minutes=0.2))
    race.main(replace(args, names=("wide",), minutes=0.5, runs=f"{args.runs}/elsewhere"))
    capsys.readouterr()
    race.main(replace(args, names=("small",), minutes=0.3))
    assert [steps_of(args, f"small_{minutes}min") for minutes in (0.2, 0.3)] == [2, 4]
    rows = re.findall(r"^\| (\w+_\S+) \|.*\| (\d+) \| \d+ \|$", capsys.readouterr().out, re.M)
    assert rows == [("small_0.2min", "2"), ("small_0.3min", "4"), ("wide_0.5min", "3")]


@pytest.mark.slow(20)
def test_what_is_done_is_scored_as_evaluate_does_it(args, pairs, capsys, monkeypatch):
    monkeypatch.setattr(race, "CONTESTANTS", {"deaf": {"model": FullBandArgs(n_layers=1)}})  # at the pairs' rate
    put_list(pairs, "a\tgame", "b\tvoice")
    race.main(replace(args, names=("deaf",), pairs=str(pairs), minutes=0.1))
    folder = Path(args.runs) / "deaf_0.1min"
    theirs = json.loads((folder / "evaluation" / "scores.json").read_text())["summary"]["deaf_0.1min"]
    ours = json.loads((Path(args.results) / "learning.json").read_text())["deaf_0.1min"]["scores"]
    assert ours == theirs and theirs["game"]["si_sdri"][3] == 1
    head, _, row = (line.split(" | ") for line in capsys.readouterr().out.strip().splitlines()[-3:])
    assert head[:3] == ["| run", "SI-SDRi, game", "SI-SDRi, voice"] and row[0] == "| deaf_0.1min"
    assert float(row[1]) == pytest.approx(theirs["game"]["si_sdri"][0], abs=0.051)
    assert row[3] == f"{theirs[PRESENT]['gained'][0]:.0f}%"


def test_the_time_of_a_step_is_the_median_of_a_short_run_that_leaves_nothing(args, monkeypatch):
    seen = []

    def train_main(run):
        seen.append(run)
        table = curves.Table(run.folder, 0)
        for step, speed in ((20, 1.0), (40, 16.0), (60, 8.0)):
            table.add(step, {"train/audio_s_per_s": speed})

    monkeypatch.setattr(race.train, "main", train_main)
    run = race.entry("small", NETS["small"], args)
    assert seconds_a_step(run) == 2 * 4.0 / 8.0
    assert seen[0].steps == race.TRIAL and seen[0].model == SMALL
    assert seen[0].folder.parent == run.folder.parent and not list(run.folder.parent.glob("*"))


def test_a_name_that_does_not_run_is_refused():
    with pytest.raises(UserError, match="RaceArgs.names: 'horse'; give some of fullband, fullband_base, band"):
        race.RaceArgs(names=("horse",))


def test_a_flow_refines_the_longest_run_of_the_net_that_it_names(tmp_path):
    def found() -> str:
        return race.entry("flow", race.CONTESTANTS["flow"], race.RaceArgs(runs=str(tmp_path))).init_from

    assert found() == f"{tmp_path}/fullband_base_60min/best.pt"  # which train.py will miss
    for name in ("fullband_base_9min", "fullband_base_10.5min", "fullband_base_99min.trial", "fullband_120min"):
        (tmp_path / name).mkdir()
    assert found() == f"{tmp_path}/fullband_base_10.5min/best.pt"
    run = race.entry("flow", race.CONTESTANTS["flow"], race.RaceArgs(runs=str(tmp_path)))
    assert run.model.predictor == race.CONTESTANTS["fullband_base"]["model"]


def test_sigma_reparam_costs_a_parameter_a_group_and_no_product_once_it_is_folded():
    args = DPTNetArgs(RATE, kernel=32, n_filters=64, fourier=True, bottleneck=16, hidden=16, n_blocks=1, n_heads=2)
    plain, with_sigma = cost(args), cost(replace(args, sigma_reparam=True))
    net = DPTNet(replace(args, sigma_reparam=True))
    n_groups = sum(reparam.gamma.numel() for _, reparam in sigma.parametrized(net))
    assert with_sigma == (plain.n_parameters + n_groups, plain.gmac_per_s) and n_groups > 5
