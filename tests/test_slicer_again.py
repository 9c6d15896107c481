"""The slicer where it was before: a second run, a new recording, after a kill; pictures asked for later."""

import os
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from speech import RATE, TALK, clips_of, content, put, rows_in, run_slicer, settings_of, sliced, talk
from tiny import alone_in_elsewhere

import slicer
from extractor import UserError, report, slicing
from slicer import main


@pytest.fixture
def two(tmp_path) -> Path:
    """A folder with two recordings, sliced."""
    for seed, name in enumerate(("a.wav", "b.wav")):
        put(tmp_path / "in" / name, talk(*TALK, seed=seed), subtype="PCM_16")
    sliced(tmp_path)
    return tmp_path


def test_a_second_run_changes_nothing_and_a_clip_that_was_deleted_stays_deleted(two):
    (two / "out" / "src_0_1.wav").unlink()
    before = content(two / "out"), {p: p.stat().st_mtime_ns for p in (two / "out").iterdir()}
    sliced(two)
    assert (content(two / "out"), {p: p.stat().st_mtime_ns for p in (two / "out").iterdir()}) == before


def test_a_new_recording_gets_the_next_free_number_and_a_copy_none_be_it_of_an_old_one_or_a_new(two, capsys):
    before = content(two / "out")
    put(two / "in" / "0.wav", talk(*TALK, seed=2))
    for copy, of in (("copy.wav", "a.wav"), ("1.wav", "0.wav")):
        (two / "in" / copy).write_bytes((two / "in" / of).read_bytes())
    sliced(two)
    out = capsys.readouterr().out
    assert f"{two}/in/copy.wav: the same file as {two}/in/a.wav" in out
    assert f"{two}/in/1.wav: the same file as {two}/in/0.wav" in out
    after = content(two / "out")
    table = before.pop("slices.tsv")
    assert after.pop("slices.tsv").startswith(table) and before.items() <= after.items()
    assert {name[:6] for name in after.keys() - before.keys()} == {"src_2_"}


def test_numbers_come_from_the_names_and_no_file_of_the_users_is_written_over(tmp_path):
    for i, name in enumerate(["src_012.wav", "src_7.wav", "src_7b.wav", "talk.wav", "other/src_7.flac", "src_3.wav"]):
        put(tmp_path / "in" / name, talk(*TALK[:9], seed=i), subtype="PCM_16")
    for name in ("src_0_0.wav", "src_3_note.txt"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("the user's own")
    rows = sliced(tmp_path)
    assert {row["source"].partition("/in/")[2]: row["clip"].split("_")[1] for row in clips_of(rows)} == {
        "other/src_7.flac": "7", "src_012.wav": "12", "src_3.wav": "1", "src_7.wav": "2", "src_7b.wav": "4",
        "talk.wav": "5"}
    assert (tmp_path / "out" / "src_0_0.wav").read_text() == "the user's own"


def test_with_other_settings_or_for_a_file_that_changed_nothing_is_cut_anew(two):
    before = content(two / "out")
    failures = main(settings_of(two, max_s=14, picture=True))
    assert [f.partition(": ")[2] for f in failures] == [
        f"sliced before with other settings; delete {two}/out, or choose another out_dir and train on one of the two"
    ] * 2
    put(two / "in" / "a.wav", talk(*TALK, seed=3))
    (failure,) = main(settings_of(two))
    assert failure == (
        f"{two}/in/a.wav: is no longer the file that was sliced before; delete its clips and its rows in "
        f"{two}/out/slices.tsv, and run again"
    )
    assert content(two / "out") == before


def test_two_processes_do_not_slice_into_one_folder(two):
    before = content(two / "out")
    put(two / "in" / "c.wav", talk(*TALK, seed=3))
    with alone_in_elsewhere(two / "out"), pytest.raises(UserError, match="out: another process is at work there"):
        main(settings_of(two))
    assert content(two / "out") == before


class Killed(BaseException):
    pass


def assert_all_visible_clips_are_whole(folder: Path):
    lengths = {row["clip"]: round(row["seconds"] * RATE) for row in clips_of(rows_in(folder))}
    for path in (folder / "out").glob("src_*.wav"):
        assert len(sf.read(path)[0]) == lengths[path.name]


@pytest.mark.parametrize("save_every_s, tables", [(-1, 2), (60, 1)])
def test_a_run_that_dies_before_any_of_its_renamings_is_finished_by_the_next(save_every_s, tables, two, monkeypatch):
    monkeypatch.setattr(slicer, "SAVE_EVERY_S", save_every_s)
    expected, replace = content(two / "out"), os.replace
    renamings = 2 * (len(expected) - 1) + tables  # every clip twice
    for lives in range(renamings + 1):
        for path in (two / "out").iterdir():
            path.unlink()
        done = iter(range(lives))

        def replace_or_die(*paths, done=done):
            if next(done, None) is None:
                raise Killed
            replace(*paths)

        with monkeypatch.context() as patch, pytest.raises(Killed) if lives < renamings else nullcontext():
            patch.setattr(os, "replace", replace_or_die)
            main(settings_of(two))
        assert_all_visible_clips_are_whole(two)
        sliced(two)
        assert content(two / "out") == expected


def test_a_run_that_is_killed_at_any_time_is_finished_by_the_next(tmp_path):
    for i in range(4):
        put(tmp_path / "in" / f"{i}.wav", talk(0.4, *[4, 0.5] * 50, seed=i), subtype="PCM_16")
    sliced(tmp_path)
    expected, rng = content(tmp_path / "out"), np.random.default_rng(0)
    unfinished = 0
    for _ in range(5):
        for path in (tmp_path / "out").iterdir():
            path.unlink()
        process = run_slicer(tmp_path)
        while not (tmp_path / "out" / slicing.STAGING).exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.communicate()
        unfinished += len({row["source"] for row in rows_in(tmp_path)}) < 4
        assert_all_visible_clips_are_whole(tmp_path)
        sliced(tmp_path)
        assert content(tmp_path / "out") == expected
    assert unfinished


def test_a_picture_is_drawn_beside_the_clips_also_when_asked_for_later(two):
    before = content(two / "out")
    sliced(two, picture=True)
    after = content(two / "out")
    pictures = [after.pop(name) for name in ("src_0.png", "src_1.png")]
    assert after == before
    assert all(x.startswith(b"\x89PNG\r\n\x1a\n") and len(x) > 5000 for x in pictures)


def test_the_level_curve_in_the_picture_is_as_long_as_the_recording(tmp_path, monkeypatch):
    drawn, cuts = [], report.cuts
    monkeypatch.setattr(report, "cuts", lambda *args: drawn.append(args) or cuts(*args))
    put(tmp_path / "in" / "a.wav", talk(*TALK, rate=22050), 22050)
    sliced(tmp_path, picture=True)
    ((levels, hop_s, spans, _),) = drawn
    assert len(levels) * hop_s == pytest.approx(max(end for _, end, *_ in spans), abs=0.02)
