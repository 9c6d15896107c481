"""Runs that are killed, told to end, or out of room."""

import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tiny import ROOT, assert_equal, scalars, tiny_command, tiny_run, weights

import models
import train
from extractor import UserError, checkpoint, step_cost
from extractor.parallel import Backward
from extractor.script import EXIT_RESUMABLE, Stop
from extractor.step_cost import Memory
from train import MainArgs, main

SPAWNED = multiprocessing.get_context("forkserver")  # processes that have imported torch already


@pytest.fixture
def args(recordings, tmp_path) -> MainArgs:
    return tiny_run(recordings, tmp_path)


def step_of(path: Path) -> int:
    return checkpoint.load(path)["step"]


def quietly(args: MainArgs):
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of its own: a worker that is spawned imports torch again
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    main(args)


@pytest.mark.slow(110)
def test_thirty_kills_at_any_moment_lose_the_steps_since_the_last_save_and_no_more(args):
    SPAWNED.set_forkserver_preload(["train", "tiny"])
    args = replace(args, steps=400, valid_every=40, save_every=5, keep=2, workers=1)
    straight = replace(args, name="straight")
    main(straight)

    rng, last, before, kills = np.random.default_rng(0), args.folder / "last.pt", 0, 0
    while kills < 30:
        process = SPAWNED.Process(target=quietly, args=(args,))
        process.start()
        if kills % 2:  # while it trains; else at whatever it does by then
            until = time.monotonic() + 60
            while not (last.exists() and step_of(last) > before) and time.monotonic() < until:
                time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3 if kills % 2 else 1.5))
        process.kill()
        process.join()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # those who make mixtures would notice, seconds later
        kills += 1
        step = step_of(last) if last.exists() else 0
        assert before <= step and step % 5 == 0
        assert kills % 2 or step > before or step == args.steps
        before = step
        for path in args.folder.glob("*.pt"):
            checkpoint.load(path)
    assert before < args.steps  # none came too late
    main(args)

    for name in ("last.pt", "best.pt"):
        assert_equal(weights(args.folder / name), weights(straight.folder / name))
    kept = {path.name for path in straight.folder.glob("step_*.pt")}
    assert {path.name for path in args.folder.glob("step_*.pt")} == kept and len(kept) == 2
    ours, theirs = scalars(args.folder), scalars(straight.folder)
    assert ours["valid/loss"] == theirs["valid/loss"] and ours["train/loss"] == theirs["train/loss"]


@pytest.mark.slow(12)
@pytest.mark.parametrize("whole_group", [False, True])
def test_told_to_end_it_saves_and_leaves_with_a_status_of_its_own(whole_group, args, recordings, tmp_path):
    command = tiny_command(recordings, tmp_path, "alice", steps=3000, valid_every=1000, workers=1, save_every=500)
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )
    curves, until = args.folder / "curves.csv", time.monotonic() + 120
    while not (curves.exists() and curves.read_text().count("\n") > 2):  # it trains
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    step = step_of(args.folder / "last.pt")
    assert process.returncode == EXIT_RESUMABLE == 75 and 20 < step < 3000 and step % 500
    assert f"told to end at step {step} of 3000, saved; run it again to go on" in out and "Traceback" not in out


def test_a_step_under_way_when_it_is_told_to_end_is_the_last(args, monkeypatch, capsys):
    backward, calls = Backward.__call__, []

    def told_in_the_second(*given):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return backward(*given)

    monkeypatch.setattr(step_cost, "memory", lambda *_: Memory(0, 0))
    monkeypatch.setattr(Backward, "__call__", told_in_the_second)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(replace(args, save_every=100, valid_every=100))
    assert ended.value.code == EXIT_RESUMABLE and step_of(args.folder / "last.pt") == 2
    assert "told to end at step 2 of 6, saved" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == before
    main(args)
    assert step_of(args.folder / "last.pt") == 6


def test_outside_of_a_thread_that_may_it_is_never_told():
    def asked() -> bool:
        with Stop() as stop:
            return stop.asked

    with ThreadPoolExecutor() as pool:
        assert pool.submit(asked).result() is False


def test_a_full_disk_ends_the_run_with_one_sentence_and_the_last_checkpoint_whole(args):
    main(args)
    last = args.folder / "last.pt"
    before, unlimited = last.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, unlimited[1]))
    try:
        with pytest.raises(UserError, match=r"(best|last)\.pt: cannot be written \(File too large\)"):
            main(replace(args, steps=12))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert last.read_bytes() == before and not list(args.folder.glob("*.part"))
    main(replace(args, steps=12))
    assert step_of(last) == 12


@pytest.fixture
def validated(monkeypatch):
    """validated(*losses): what validations find, one after another."""
    def validated(*losses: float):
        found, validate = iter(losses), train.validate
        monkeypatch.setattr(train, "validate", lambda *a: (validate(*a)[0] | {"loss": next(found)}, validate(*a)[1]))

    return validated


def test_the_best_few_checkpoints_stay_ready_to_extract(args, validated):
    validated(5.0, 3.0, 4.0, 6.0, 3.5, 1.0, 0.5)
    args = replace(args, valid_every=1, keep=3)
    args.folder.mkdir(parents=True)
    (args.folder / "step_3_mine.pt").touch()
    main(args)
    kept = {"step_2.pt", "step_5.pt", "step_6.pt", "step_3_mine.pt"}
    assert {p.name for p in args.folder.glob("step_*")} == kept and step_of(args.folder / "best.pt") == 6
    models.load(args.folder / "step_5.pt")
    main(replace(args, steps=7, keep=1))  # gone on without the word
    assert {p.name for p in args.folder.glob("step_*")} == kept and step_of(args.folder / "best.pt") == 7


def test_without_anything_better_for_so_long_it_ends_early_and_can_go_on(args, validated, capsys):
    validated(3.0, 2.0, 2.5, 2.0, 2.2, 1.0)
    args = replace(args, steps=60, valid_every=2, patience=2)
    main(args)
    assert step_of(args.folder / "last.pt") == 8 and step_of(args.folder / "best.pt") == 4
    out = capsys.readouterr().out
    assert "best at step 4, validation loss +2.00" in out
    assert f'infer.py --checkpoint "{args.folder}/best.pt" --inputs "datasets/dirty/alice/**/*" --out-dir "ex' in out
    main(args)
    assert "ended early at step 8, nothing better since step 4; raise MainArgs.pat" in capsys.readouterr().out
    main(replace(args, steps=12, patience=4))
    assert step_of(args.folder / "best.pt") == 12


def test_a_recording_that_breaks_in_the_night_is_named_counted_and_passed_over(args, tmp_path, capsys):
    other = Path(shutil.copytree(args.data.dirty[0], tmp_path / "other"))
    samples, rate = sf.read(other / "game/src_0.flac")
    samples = np.tile(samples, 10)
    samples[10 * rate : 30 * rate] = np.nan  # where nothing is read before training
    (other / "game/src_0.flac").unlink()
    sf.write(other / "game/src_0.wav", samples, rate, "FLOAT")
    with pytest.warns(UserWarning, match=r"passed over: .*game/src_0\.wav: NaN or infinite samples"):
        main(replace(args, data=replace(args.data, dirty=(str(other),)), steps=20, valid_every=20))
    (n,) = scalars(args.folder)["train/unread"]
    assert n > 0 and f"{n:.0f} draws from recordings failed and were made anew" in capsys.readouterr().out


@pytest.mark.slow(20)
@pytest.mark.parametrize("workers", [0, 1])
def test_where_nothing_can_be_read_any_more_the_run_ends_at_once_with_one_sentence(workers, args, recordings, tmp_path):
    folder = Path(shutil.copytree(recordings, tmp_path / "recordings"))
    command = tiny_command(folder, tmp_path, "alice", steps=100_000, valid_every=50_000, workers=workers)
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    while not (args.folder / "last.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    (folder / "clean").rename(tmp_path / "unplugged")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in said
    said = said.rstrip().split("\n")[-1]
    assert re.fullmatch(r"error: none of 20 draws could be read, the last one: .*src_\d\.wav: .*", said), said


@pytest.mark.parametrize("fails, words", [
    (lambda *_: fail_in_shm(), "too little shared memory .*--shm-size=1g, or give --workers 0"),
    (lambda *_: os.kill(os.getpid(), signal.SIGKILL), "was ended from outside, .* without free memory .*--workers"),
])
def test_what_makes_mixtures_and_has_no_memory_ends_the_run_with_one_sentence(fails, words, args, monkeypatch):
    monkeypatch.setattr(train.Reported, "__getitem__", fails)
    with pytest.raises(UserError, match=words):
        main(replace(args, workers=1))


def fail_in_shm():
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")
