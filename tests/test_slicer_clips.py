"""From long recordings to clips: what the clips hold, what is said and what is refused."""

import os
import re
import sys

import numpy as np
import pytest
import soundfile as sf
import soxr
from encoded import encode
from speech import (
    BACKGROUND_DB,
    RATE,
    TALK,
    assert_every_second_is_accounted_for,
    clips_of,
    content,
    gain,
    put,
    rows_in,
    run_slicer,
    settings_of,
    sliced,
    splices_of,
    talk,
)

from extractor import UserError
from slicer import FADE_S, SlicerArgs, cross_fade, main

# ---------------------------------------------------------------------------------------------------------------------
# the samples


@pytest.mark.parametrize("mono", [True, False])
@pytest.mark.parametrize(
    "suffix, subtype, format",
    [("wav", "PCM_16", "wav"), ("wav", "PCM_24", "wav"), ("wav", "PCM_32", "wav"), ("wav", "FLOAT", "wav"),
     ("wav", "DOUBLE", "wav"), ("flac", "PCM_16", "wav"), ("flac", "PCM_24", "wav"), ("wav", "PCM_16", "flac"),
     ("flac", "PCM_24", "flac")],
)
def test_clips_are_bit_for_bit_the_recording_save_for_the_fades(suffix, subtype, format, mono, tmp_path):
    x = talk(0.4, 4, 2, 4, 0.3, 9, 0.4)  # neither 4 s makes a clip without the other
    x = 0.999 * x / np.abs(x).max()
    x = x if mono else np.stack([x, 0.7 * np.roll(x, 20)], axis=1)
    source = put(tmp_path / "in" / f"a.{suffix}", x, subtype=subtype)
    rows = sliced(tmp_path, mono=mono, format=format)
    dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(subtype, "int32")
    recording = sf.read(source, dtype=dtype, always_2d=True)[0]
    n_splices = 0
    for row in clips_of(rows):
        clip = sf.read(tmp_path / "out" / row["clip"], dtype=dtype, always_2d=True)[0]
        assert sf.info(tmp_path / "out" / row["clip"]).subtype == subtype
        times = [row["start_s"], *(s[end] for s in splices_of(row, rows) for end in ("start_s", "end_s")), row["end_s"]]
        edges = [round(t * RATE) for t in times]
        pieces = [recording[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        assert len(clip) == sum(map(len, pieces))
        for i, piece in enumerate(pieces):
            at, faded = sum(map(len, pieces[:i])), round(FADE_S * RATE) if i else 0
            np.testing.assert_array_equal(clip[at + faded : at + len(piece)], piece[faded:])
        n_splices += len(pieces) - 1
    assert n_splices == 1 and len(clips_of(rows)) == 2


def test_clips_begin_and_end_where_the_background_is_nearest_to_zero(tmp_path):
    sliced(tmp_path, talk(0.5, *[2, 0.5] * 60))
    ends = [sf.read(path)[0][[0, -1]] for path in (tmp_path / "out").glob("*.wav")]
    assert len(ends) >= 10 and np.abs(ends).max() < 0.5 * gain(BACKGROUND_DB)


def test_a_cross_fade_rises_without_a_step_and_its_gains_add_up_to_one():
    constant = np.full((500, 2), 0.3, np.float32)
    np.testing.assert_allclose(cross_fade(constant, constant, 100), np.full((900, 2), 0.3), rtol=1e-6)
    rise = cross_fade(0 * constant, constant / 0.3, 100)[:, 0]
    assert not rise[:400].any() and (rise[500:] == 1).all()
    steps = np.diff(rise[399:501])
    assert (0 < steps).all() and steps.max() < np.pi / 2 / 100 * 1.01  # the steepest of a half cosine


@pytest.mark.parametrize("hum_db", [None, -40])
def test_where_a_pause_was_shortened_there_is_no_click(hum_db, tmp_path):
    rate = 44100
    x = np.stack([talk(0.3, 4, 2.345, 4, 0.3, rate=rate, seed=seed) for seed in (0, 1)], axis=1)
    if hum_db is not None:  # where the one channel is at zero, the other is not
        angle = 2 * np.pi * 130 * np.arange(len(x)) / rate
        x += 2**0.5 * gain(hum_db) * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    put(tmp_path / "in" / "a.wav", x, rate)
    rows = sliced(tmp_path, sample_rate=rate, mono=False)
    (row,) = clips_of(rows)
    clip, _ = sf.read(tmp_path / "out" / row["clip"])
    at, n = round((splices_of(row, rows)[0]["start_s"] - row["start_s"]) * rate), round(FADE_S * rate)
    steps = np.abs(np.diff(clip, axis=0))
    nearby = steps[at - 10 * n : at - n].max()  # of the background that was left as it is
    assert steps[at - 2 : at + n + 2].max() <= (1.05 if hum_db is None else 2) * nearby


@pytest.mark.parametrize("rate, channels, clip_rate, note", [
    (11025, 2, 11025, ""), (11025, 6, 11025, "6 channels, of which the clips are the mean"), (11025, 1, 8000, ""),
    (8000, 2, 44100, "8000 Hz: its clips hold nothing above 4 kHz"),
])
def test_what_is_computed_is_written_as_float(rate, channels, clip_rate, note, tmp_path, capsys):
    x = talk(*TALK[:9], rate=rate)
    gains = 2 * np.arange(1, channels + 1) / (channels + 1)  # their mean is 1
    put(tmp_path / "in" / "a.wav", x[:, None] * gains, rate, "PCM_24")
    rows = sliced(tmp_path, sample_rate=clip_rate)
    expected = soxr.resample(x, rate, clip_rate) if rate != clip_rate else x
    for row in clips_of(rows):
        info = sf.info(tmp_path / "out" / row["clip"])
        assert (info.samplerate, info.channels, info.subtype) == (clip_rate, 1, "FLOAT")
        clip = sf.read(tmp_path / "out" / row["clip"])[0]
        np.testing.assert_allclose(clip, expected[round(row["start_s"] * clip_rate) :][: len(clip)], atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert [x for x in lines if "a.wav: " in x] == [f"{tmp_path}/in/a.wav: {note}"] * bool(note)


def test_flac_refuses_what_it_would_clip_and_leaves_nothing_behind(tmp_path):
    x = talk(*TALK)
    x[-RATE] = 1.5
    put(tmp_path / "in" / "a.wav", x)
    assert main(settings_of(tmp_path, format="flac")) == [
        f"{tmp_path}/in/a.wav: peaks at 1.50 of full scale, which flac cannot hold; use format wav"]
    assert content(tmp_path).keys() == {"in/a.wav"}  # the other clips are gone, too


# ---------------------------------------------------------------------------------------------------------------------
# what is said


def test_a_recording_that_breaks_off_is_sliced_up_to_there_and_noted(tmp_path, capsys):
    path = put(tmp_path / "in" / "a.wav", talk(*TALK), subtype="PCM_24")
    path.write_bytes(path.read_bytes()[: 44 + 3 * 20 * RATE + 1])
    rows = sliced(tmp_path)
    assert "cut off at its end; the 20.0 s that are there are used" in capsys.readouterr().out
    assert_every_second_is_accounted_for(rows, 20)


def test_a_recording_too_short_for_a_clip_is_named_in_every_run_until_the_advice_is_taken(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(0.3, 2.5, 0.2))
    for _ in range(2):
        (failure,) = main(settings_of(tmp_path))
        assert failure.startswith(f"{tmp_path}/in/a.wav: 2.")
        assert failure.endswith("s of speech, too short for a clip of min_s = 5 s; lower min_s")
        assert list(content(tmp_path / "out")) == ["slices.tsv"]
    assert_every_second_is_accounted_for(rows_in(tmp_path), 3)
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


def test_a_bad_file_is_named_and_passed_over_and_the_status_is_1(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(*TALK))
    (tmp_path / "in" / "b.wav").write_text("no sound, just words")
    nan = talk(*TALK)
    nan[-1] = np.nan
    put(tmp_path / "in" / "c.wav", nan)
    put(tmp_path / "in" / "zoë 音声.wav", talk(*TALK, seed=1))
    process = run_slicer(tmp_path)
    out, err = process.communicate()
    assert process.returncode == 1 and "Traceback" not in err
    assert "2 of 4 recordings failed" in err and "b.wav: no sound file" in err and "c.wav: NaN or infinite" in err
    assert {row["source"] for row in clips_of(rows_in(tmp_path))} == {
        f"{tmp_path}/in/a.wav", f"{tmp_path}/in/zoë 音声.wav"}
    n_clips, seconds = len(clips_of(rows_in(tmp_path))), [row["seconds"] for row in clips_of(rows_in(tmp_path))]
    assert f"{n_clips} clips of {min(seconds):.1f} to {max(seconds):.1f} s" in out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no UTF-8")
def test_a_recording_whose_name_is_no_utf_8_does_not_stop_the_others(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(*TALK))
    os.rename(put(tmp_path / "in" / "b.wav", talk(*TALK, seed=1)), os.fsencode(tmp_path / "in") + b"/caf\xe9.wav")
    process = run_slicer(tmp_path)
    assert "Traceback" not in process.communicate()[1]
    assert f"{tmp_path}/in/a.wav" in {row["source"] for row in clips_of(rows_in(tmp_path))}


def test_what_was_left_out_of_a_recording_stays_in_the_table_when_another_one_is_cut_with_other_settings(tmp_path):
    put(tmp_path / "in" / "a.wav", talk(0.3, 3, 0.3))
    main(settings_of(tmp_path))
    left_out = rows_in(tmp_path)
    (tmp_path / "in" / "a.wav").unlink()
    put(tmp_path / "in" / "b.wav", talk(0.3, 3, 0.3, seed=1))
    rows = sliced(tmp_path, min_s=2)
    assert left_out and [row for row in rows if row["source"].endswith("a.wav")] == left_out


def test_a_mistake_ends_the_script_with_one_sentence_and_status_1(tmp_path):
    process = run_slicer(tmp_path)
    sentence = f"{tmp_path}/in: no recordings match; put the glob in quotes, or name a folder"
    assert process.communicate() == ("", f"error: {sentence}\n") and process.returncode == 1


def test_a_film_is_cut_like_sound(tmp_path):
    """Its clips begin where those of the same sound in a .wav file do."""
    x = talk(*TALK).astype(np.float32)
    encode(tmp_path / "in" / "a.m4a", x, rate=RATE, codec="aac")
    film = sliced(tmp_path)
    put(tmp_path / "sound" / "in" / "a.wav", x)
    sound = sliced(tmp_path / "sound")
    assert_every_second_is_accounted_for(film, len(x) / RATE)
    starts = [[float(row["start_s"]) for row in rows if row["clip"]] for rows in (film, sound)]
    assert starts[0] == pytest.approx(starts[1], abs=0.3)  # in the same pauses
