"""The race of the families, between two small nets."""

import io
import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE
from scored import put_list

from bench import race
from bench.race import seconds_a_step
from extractor import UserError, checkpoint, curves
from extractor.scoring import PRESENT
from fullband import FullBandArgs

SMALL = FullBandArgs(RATE, n_fft=128, hop=32, n_bands=20, width=16, hidden=8, n_layers=1)
NETS = {
    "small": {"model": SMALL, "batch_size": 2},
    "wide": {"model": replace(SMALL, width=24), "batch_size": 1},
}


def on_a_machine(patch: pytest.MonkeyPatch, nets=NETS, wide_s: float = 10.0, other_s: float = 5.0):
    """Seconds that a step takes there, where these nets run."""
    patch.setattr(race, "CONTESTANTS", nets)
    patch.setattr(race, "seconds_a_step", lambda run: wide_s if "wide" in run.name else other_s)


@pytest.fixture(scope="session")  # slow tests of several files take turns, which would end a module's
def raced(recordings, tmp_path_factory) -> tuple[race.RaceArgs, str]:
    """A race of both nets, and what it printed."""
    folder = tmp_path_factory.mktemp("race")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        on_a_machine(patch)
        args = race.RaceArgs(
            (f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",), ("small", "wide"), minutes=1.0, workers=0,
            seed=3, device="cpu", runs=f"{folder}/runs", results=f"{folder}/results",
        )
        race.main(args)
    return args, out.getvalue()


def state_of(args: race.RaceArgs, run: str) -> dict:
    return checkpoint.load(Path(args.runs) / run / "last.pt")


@pytest.mark.slow(30)
def test_each_gets_the_steps_that_fit_the_minutes_and_all_are_in_one_table(raced):
    args, printed = raced
    assert {name: state_of(args, f"{name}_1min")["step"] for name in NETS} == {"small": 12, "wide": 6}
    printed = printed.split("\nwide\n")[1]
    assert re.findall(r"^\| (\w+) \|.*$", printed, re.M) == ["run", "small_1min", "wide_1min", "run"]
    saved = json.loads((Path(args.results) / "learning.json").read_text())
    for name, seconds in (("small_1min", 5), ("wide_1min", 10)):
        minutes = [at for at, _ in saved[name]["curves"]["game"]]
        assert minutes == pytest.approx(np.linspace(0, 1, len(minutes) + 1)[1:], abs=0.006)
        assert len(minutes) == race.N_VALID / (2 if seconds == 10 else 1) and saved[name]["minutes"] == 1.0
        assert saved[name]["threads"] == torch.get_num_threads()
        batch_size = NETS[saved[name]["name"]]["batch_size"]
        assert saved[name]["audio_s_per_s"] == pytest.approx(batch_size * 4.0 / seconds, abs=0.06)
        (row,) = re.findall(rf"^\| {name} \(validation\) \| (.*) \|$", printed, re.M)
        assert row.split(" | ") == [f"{points[-1][1] + 0.0:+.1f}" for points in saved[name]["curves"].values()]
    assert (Path(args.results) / "learning.png").stat().st_size > 10_000


@pytest.mark.slow(15)
def test_a_run_goes_on_with_the_steps_the_seed_and_the_recordings_it_was_planned_with(raced, monkeypatch):
    args, _ = raced
    on_a_machine(monkeypatch, other_s=1.0)  # a faster one, or an idle one
    race.main(replace(args, names=("small",)))
    state = state_of(args, "small_1min")
    assert (state["step"], state["args"]["seed"], state["args"]["data"]["seed"]) == (12, 3, 3)
    with pytest.raises(UserError, match=r"plan\.json: planned with seed = 3, not 4; give another RaceArgs.runs"):
        race.main(replace(args, seed=4))
    with pytest.raises(UserError, match=r"plan\.json: planned with dirty = \["):
        race.main(replace(args, dirty=args.dirty + args.clean))


@pytest.mark.slow(25)
def test_a_race_of_another_length_joins_the_earlier_one_and_is_scored_as_evaluate_does_it(
    raced, pairs, monkeypatch, capsys
):
    args, _ = raced
    on_a_machine(monkeypatch, NETS | {"deaf": {"model": FullBandArgs(n_layers=1)}})  # at the pairs' rate
    put_list(pairs, "a\tgame", "b\tvoice")
    race.main(replace(args, names=("deaf",), pairs=str(pairs), minutes=0.2, runs=f"{args.runs}/elsewhere"))
    out = capsys.readouterr().out
    rows = re.findall(r"^\| (\w+_\S+) \|.*\| (\d+) \| \d+ \|$", out, re.M)
    assert rows == [("deaf_0.2min", "2"), ("small_1min", "12"), ("wide_1min", "6")]
    folder = Path(args.runs) / "elsewhere/deaf_0.2min"
    theirs = json.loads((folder / "evaluation" / "scores.json").read_text())["summary"]["deaf_0.2min"]
    ours = json.loads((Path(args.results) / "learning.json").read_text())["deaf_0.2min"]["scores"]
    assert ours == theirs and theirs["game"]["si_sdri"][3] == 1
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.strip().split("\n\n")[-1].splitlines()]
    row = dict(zip(table[0], table[2], strict=True))
    assert row["run"] == "deaf_0.2min" and row["gained"] == f"{theirs[PRESENT]['gained'][0]:.0f}%"
    assert float(row["SI-SDRi, game"]) == pytest.approx(theirs["game"]["si_sdri"][0], abs=0.051)


def test_the_time_of_a_step_is_the_median_of_a_short_run_that_leaves_nothing(monkeypatch, tmp_path):
    def train_main(run):
        assert run.steps == race.TRIAL and run.model == SMALL
        table = curves.Table(run.folder, 0)
        for step, speed in ((20, 1.0), (40, 16.0), (60, 8.0)):
            table.add(step, {"train/audio_s_per_s": speed})

    monkeypatch.setattr(race.train, "main", train_main)
    run = race.entry("small", NETS["small"], race.RaceArgs(runs=str(tmp_path)))
    assert seconds_a_step(run) == 2 * 4.0 / 8.0 and not list(tmp_path.glob("*"))


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
