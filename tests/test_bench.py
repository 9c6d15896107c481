"""The benches: each can be started, and they take turns."""

import runpy
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from bench import timing

BENCHES = sorted(p.stem for p in Path(timing.__file__).parent.glob("*.py") if p.stem not in ("timing", "__init__"))


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_can_be_started_and_its_help_names_every_field(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"bench.{name}", run_name="__main__")
    bench = import_module(f"bench.{name}")
    args = getattr(bench, "BenchArgs", None) or bench.RaceArgs
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and all(f"--{f.name.replace('_', '-')}" in printed for f in fields(args))


def test_works_take_turns_the_first_round_is_left_out_and_the_median_counts(monkeypatch):
    clock, done = [0.0], []
    takes = {"a": [100.0, 1.0, 5.0, 2.0], "b": [100.0, 0.5, 0.25, 8.0]}

    def work(name):
        done.append(name)
        clock[0] += takes[name][done.count(name) - 1]

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert timing.medians([lambda: work("a"), lambda: work("b")], 3) == [2.0, 0.5]
    assert done == list("abababab")
