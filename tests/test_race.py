"""The race of the families, between two small nets."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE
from torch.utils.tensorboard import SummaryWriter

from bench import race
from bench.race import seconds_a_step
from extractor import UserError, checkpoint
from fullband import FullBandArgs

SMALL = FullBandArgs(RATE, n_fft=128, hop=32, n_bands=20, width=16, hidden=8, n_layers=1)
NETS = {
    "small": {"model": SMALL, "batch_size": 2},
    "wide": {"model": replace(SMALL, width=24), "batch_size": 1},
}


@pytest.fixture
def args(recordings, tmp_path, monkeypatch) -> race.RaceArgs:
    monkeypatch.setattr(race, "CONTESTANTS", NETS)
    monkeypatch.setattr(race, "seconds_a_step", lambda run: 10.0 if run.name == "wide" else 5.0)
    return race.RaceArgs(
        (f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",), ("small", "wide"), minutes=1.0, workers=0,
        device="cpu", runs=f"{tmp_path}/runs", results=f"{tmp_path}/results",
    )


def test_each_gets_the_steps_that_fit_the_minutes_and_all_are_in_one_table(args, capsys):
    race.main(args)
    steps = {name: checkpoint.load(Path(args.runs) / name / "last.pt")["step"] for name in NETS}
    assert steps == {"small": 12, "wide": 6}
    rows = re.findall(r"^\| (\w+) \|.*$", capsys.readouterr().out, re.M)
    assert rows == ["run", "small", "wide"]
    saved = json.loads((Path(args.results) / "learning.json").read_text())
    for name in NETS:
        seconds = 10.0 if name == "wide" else 5.0
        minutes = [at for at, _ in saved[name]["curves"]["game"]]
        assert minutes == pytest.approx(np.linspace(0, 1, len(minutes) + 1)[1:], abs=0.006)
        assert len(minutes) == race.N_VALID / (2 if name == "wide" else 1) and saved[name]["minutes"] == 1.0
        assert saved[name]["audio_s_per_s"] == pytest.approx(NETS[name]["batch_size"] * 4.0 / seconds, abs=0.06)
    assert (Path(args.results) / "learning.png").stat().st_size > 10_000


def test_a_run_that_was_planned_goes_on_with_its_own_number_of_steps(args, monkeypatch):
    race.main(replace(args, names=("small",)))
    monkeypatch.setattr(race, "seconds_a_step", lambda run: 1.0)  # a faster machine, or an idle one
    race.main(replace(args, names=("small",)))
    assert checkpoint.load(Path(args.runs) / "small" / "last.pt")["step"] == 12
    with pytest.raises(UserError, match=r"plan.json: planned for 1.0 minutes, not 2.0; give another RaceArgs.runs"):
        race.main(replace(args, names=("small",), minutes=2.0))


def test_the_time_of_a_step_is_the_median_of_a_short_run_that_leaves_nothing(args, monkeypatch):
    seen = []

    def train_main(run):
        seen.append(run)
        with SummaryWriter(str(run.folder)) as writer:
            for step, speed in ((20, 1.0), (40, 16.0), (60, 8.0)):
                writer.add_scalar("train/audio_s_per_s", speed, step)

    monkeypatch.setattr(race.train, "main", train_main)
    run = race.entry("small", NETS["small"], args)
    assert seconds_a_step(run) == 2 * 4.0 / 8.0
    assert seen[0].steps == race.TRIAL and seen[0].model == SMALL
    assert seen[0].folder.parent == run.folder.parent and not list(run.folder.parent.glob("*"))


def test_a_name_that_does_not_run_is_refused():
    with pytest.raises(UserError, match="RaceArgs.names: 'horse'; give some of fullband, bandsplit_lstm"):
        race.RaceArgs(names=("horse",))


def test_a_flow_refines_the_run_that_it_names():
    run = race.entry("flow", race.CONTESTANTS["flow"], race.RaceArgs(runs="runs/race"))
    assert run.init_from == "runs/race/fullband/best.pt"
