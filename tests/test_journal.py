"""What a run tells, and where its time goes."""

import subprocess
import sys
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from tiny import ROOT, scalars

from extractor import UserError, curves, journal
from extractor.journal import Journal, Meter

CPU = torch.device("cpu")


def test_tensorboard_and_the_table_have_the_same_curves_also_of_a_run_that_went_on(tmp_path):
    for first in (0, 30):
        told = Journal(tmp_path, first, 60)
        for step in range(first + 10, 61, 10):
            told.step({"loss": 0.5}, {"skipped": 0, "unread": step})
            told.point("train", step, {"loss": first + step / 8})
        told.close()
    expected = [1.25, 2.5, 3.75, 35.0, 36.25, 37.5]
    assert scalars(tmp_path)["train/loss"] == expected
    assert curves.read(tmp_path) == {"train/loss": list(zip(range(10, 61, 10), expected, strict=True))}


def test_it_says_once_how_long_it_will_take_and_that_mixtures_are_waited_for(tmp_path, capsys):
    told = Journal(tmp_path, 0, 7300)
    for step, share in ((20, 0.9), (40, 0.1), (60, 0.2), (80, 0.3), (100, 0.4)):
        told.pace({"steps_per_s": 1.0, "data_wait": share}, 7240 - step)
    told.close()
    pace, wait = capsys.readouterr().out.splitlines()
    assert pace == "about 3,600 steps an hour, 2.0 hours to go"
    assert wait.startswith("30% of the time goes by waiting for mixtures: try more --workers (")


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    told = Journal(tmp_path, 0, 10)

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("add_scalar", "flush"):
        monkeypatch.setattr(told.writer, name, full)
    for write in (lambda: told.point("train", 1, {"loss": 1.0}), lambda: told.examples(1, {}, [], 8000)):
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make room, and run again"):
            write()
    monkeypatch.undo()
    told.close()


def test_rates_are_those_of_the_steps_since_the_last_reading(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def batches():
        for i in count():
            clock.now += 1.0 if i < 4 else 0.0  # is waited for
            yield i

    meter, rates = Meter(CPU, heard_s=8.0), []
    for i in meter.waiting(batches()):
        clock.now += 3.0  # a step
        if i in (1, 3, 6):
            rates.append(meter.read())
        if i == 6:
            break
    assert [r["steps_per_s"] for r in rates] == [2 / 8, 2 / 8, 3 / 9]
    assert [r["audio_s_per_s"] for r in rates] == [2.0, 2.0, 24 / 9]
    assert [r["data_wait"] for r in rates] == [0.25, 0.25, 0.0]


def test_the_memory_is_the_most_that_this_process_had():
    code = """
import numpy as np, torch
from extractor.journal import memory_gib
found = [memory_gib(torch.device("cpu"))]
block = np.ones(2**27)  # a GiB
found.append(memory_gib(torch.device("cpu")))
del block
print(*found, memory_gib(torch.device("cpu")))
"""
    shell = ["sh", "-c", '"$@"; exit $?', "sh"]  # between: a process inherits its starter's peak
    words = [*shell, sys.executable, "-c", code]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before, during, after = map(float, said.split())
    assert 0.05 < before < 10 and 0.6 < during - before < 1.1 and after >= during  # loading took some that is free now
