"""What the slicer says and refuses, and the slicer where it was before: a second run, a new recording, after a kill;
pictures asked for later."""

import os
import re
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from encoded import encode
from speech import RATE, TALK, assert_complete, clips_of, content, put, rows_in, run_slicer, settings_of, sliced, talk
from tiny import alone_in_elsewhere

import slicer
from extractor import UserError, report, slicing
from slicer import SlicerArgs, main


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


def test_another_table_of_the_same_name_is_refused_and_left_alone(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "slices.tsv").write_text("slice\tprice\nmargherita\t3\n")
    refused = r"slices\.tsv: is no table with the columns clip, .*; move it away, or choose another out_dir"
    with pytest.raises(UserError, match=refused):
        main(settings_of(tmp_path))
    assert (tmp_path / "out" / "slices.tsv").read_text() == "slice\tprice\nmargherita\t3\n"


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


@pytest.mark.parametrize("seconds, rows, row_s", [(5, 1, 60), (60, 1, 60), (61, 2, 60), (7200, 60, 120)])
def test_a_picture_of_cuts_has_a_row_a_minute_and_sixty_rows_at_most(seconds, rows, row_s):
    levels, lines = np.linspace(-80, -20, seconds * 100), {"background": -70.0, "speech": -20.0, "level": -55.0}
    figure = report.cuts(levels, 0.01, [(0, 2.0, "", ""), (2.0, seconds, "src_0_0.wav", "end")], lines)
    assert [axes.get_xlim() for axes in figure.axes] == [(i * row_s, (i + 1) * row_s) for i in range(rows)]
    red = [[line.get_xdata()[0] for line in axes.lines if line.get_color() == "red"] for axes in figure.axes]
    assert red[-1] == [seconds]  # the cut inside speech


# --- what is said ----------------------------------------------------------------------------------------------------


def test_a_recording_that_breaks_off_is_sliced_up_to_there_and_noted(tmp_path, capsys):
    path = put(tmp_path / "in" / "a.wav", talk(*TALK), subtype="PCM_24")
    path.write_bytes(path.read_bytes()[: 44 + 3 * 20 * RATE + 1])
    rows = sliced(tmp_path)
    assert "cut off at its end; the 20.0 s that are there are used" in capsys.readouterr().out
    assert_complete(rows, 20)


def test_a_recording_too_short_for_a_clip_is_named_in_every_run_until_the_advice_is_taken(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(0.3, 2.5, 0.2))
    for _ in range(2):
        (failure,) = main(settings_of(tmp_path))
        assert failure.startswith(f"{tmp_path}/in/a.wav: 2.")
        assert failure.endswith("s of speech, too short for a clip of min_s = 5 s; lower min_s")
        assert list(content(tmp_path / "out")) == ["slices.tsv"]
    assert_complete(rows_in(tmp_path), 3)
    (clip,) = clips_of(sliced(tmp_path, min_s=2))
    assert 2 <= clip["seconds"] <= 3


@pytest.mark.parametrize(
    "samples, fields, sentence",
    [
        (np.zeros(20 * RATE), {}, "20.0 s of digital silence; is it the right file?"),
        (talk(20), {}, "no speech found in 20.0 s: nothing stands out from its background of -7"),
        (talk(*TALK) / 100, {"threshold_db": -40}, "never above -5[0-9] dBFS; lower threshold_db = -40"),
    ],
    ids=["zeros", "noise", "threshold"],
)
def test_where_nothing_is_louder_than_the_rest_there_are_no_clips_but_a_sentence(samples, fields, sentence, tmp_path):
    put(tmp_path / "in" / "a.wav", samples)
    for _ in range(2):
        (failure,) = main(settings_of(tmp_path, **fields))
        assert failure.startswith(f"{tmp_path}/in/a.wav: ") and re.search(sentence, failure)
        assert content(tmp_path / "out") == {}


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"min_s": 8, "max_s": 7}, "min_s = 8, max_s = 7: give min_s more than 0, and max_s at least a second more"),
        ({"min_s": 5, "max_s": 5.9}, "min_s = 5, max_s = 5.9: give min_s .* max_s at least a second more than min_s"),
        ({"max_pause_s": 0.12}, "min_pause_s = 0.15, max_pause_s = 0.12"),
        ({"sample_rate": 100}, "sample_rate = 100: give 1000 to 384000 Hz"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_their_values(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        SlicerArgs(**fields)


def test_limits_between_two_samples_are_narrowed_and_the_middle_is_preferred_where_nothing_else_is():
    limits = SlicerArgs(min_s=2.00005, max_s=4.00005, sample_rate=8000).limits   # 16000.4 and 32000.4 samples
    assert (limits.shortest, limits.longest, limits.preferred) == (16001, 32000, 24000)


def test_clips_are_not_written_to_where_the_recordings_lie(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(1))
    with pytest.raises(UserError, match="in: is where the inputs lie; choose another out_dir"):
        main(SlicerArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "in")))


def test_a_bad_file_is_named_and_passed_over_whatever_the_names_and_the_status_is_1(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.wav").write_text("no sound, just words")
    nan = talk(*TALK)
    nan[-1] = np.nan
    put(tmp_path / "in" / "c.wav", nan)
    named = ["a.wav", "zoë 音声.wav"] + [os.fsdecode(b"caf\xe9.wav")] * (sys.platform == "linux")  # which is no UTF-8
    for seed, name in enumerate(named):
        os.rename(put(tmp_path / "in" / "talk.wav", talk(*TALK, seed=seed)), tmp_path / "in" / name)
    process = run_slicer(tmp_path)
    out, err = process.communicate()
    assert process.returncode == 1 and "Traceback" not in err
    assert f"2 of {2 + len(named)} recordings failed" in err
    assert "b.wav: no sound file" in err and "c.wav: NaN or infinite" in err
    assert {row["source"] for row in clips_of(rows_in(tmp_path))} == {f"{tmp_path}/in/{name}" for name in named}
    n_clips, seconds = len(clips_of(rows_in(tmp_path))), [row["seconds"] for row in clips_of(rows_in(tmp_path))]
    assert f"{n_clips} clips of {min(seconds):.1f} to {max(seconds):.1f} s" in out


def test_what_was_left_out_of_a_recording_stays_in_the_table_when_another_one_is_cut_with_other_settings(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(0.3, 3, 0.3))
    main(settings_of(tmp_path))
    left_out = rows_in(tmp_path)
    (tmp_path / "in" / "a.wav").unlink()
    put(tmp_path / "in" / "b.wav", talk(0.3, 3, 0.3, seed=1))
    rows = sliced(tmp_path, min_s=2)
    assert left_out and [row for row in rows if row["source"].endswith("a.wav")] == left_out


def test_a_film_is_cut_like_sound(tmp_path):
    """Its clips begin where those of the same sound in a .wav file do."""
    x = talk(*TALK).astype(np.float32)
    encode(tmp_path / "in" / "a.m4a", x, rate=RATE, codec="aac")
    film = sliced(tmp_path)
    put(tmp_path / "sound" / "in" / "a.wav", x)
    sound = sliced(tmp_path / "sound")
    assert_complete(film, len(x) / RATE)
    starts = [[float(row["start_s"]) for row in rows if row["clip"]] for rows in (film, sound)]
    assert starts[0] == pytest.approx(starts[1], abs=0.3)  # in the same pauses
