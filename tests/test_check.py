"""check.py: which flaws of one recording are named. For a set of them see test_check_sets.py."""

import re
from pathlib import Path

import numpy as np
import pytest
import soxr
from recordings import RATE, bursts, save, white
from speech import TALK, gain, talk

import check
from check import CheckArgs, examine
from dataset import MixtureArgs
from extractor import UserError
from extractor.material import check_clean
from extractor.profile import N_BANDS, bandwidth, spectrogram_db


def row_of(path: Path, kind: str = "clean", **fields) -> dict:
    return examine(path, kind, CheckArgs(**fields)).row


def flaws_of(path: Path, kind: str = "clean", **fields) -> str:
    row = row_of(path, kind, **fields)
    assert not row["fatal"]
    return row["flaws"]


# ---------------------------------------------------------------------------------------------------------------------
# flaws of one recording


@pytest.mark.parametrize("kind", ["clean", "dirty"])
def test_what_cannot_be_read_is_fatal_and_says_why(kind, tmp_path):
    text, empty, nan, far = (tmp_path / name for name in ("text.wav", "empty.wav", "nan.wav", "far.wav"))
    text.write_text("no sound, just words")
    save(empty, np.zeros(0))
    save(nan, np.full(RATE, np.nan), subtype="FLOAT")
    save(far, np.append(bursts(5), 1e29), subtype="FLOAT")
    whys = "no sound file", "holds no samples", "NaN or infinite", r"a sample of 1e\+29 times full scale near"
    for path, why in zip((text, empty, nan, far), whys, strict=True):
        row = row_of(path, kind)
        assert list(row) == list(check.COLUMNS) and row["flaws"] == "" and re.match(why, row["fatal"])


@pytest.mark.parametrize("kind, column", [("clean", "fatal"), ("dirty", "flaws")])
def test_silence_is_fatal_in_a_clean_recording_and_a_flaw_in_a_dirty_one(kind, column, tmp_path):
    square = np.sign(np.sin(2 * np.pi * 1000 * (np.arange(12 * RATE) + 0.5) / RATE))
    for name, samples in {"silent": 9e-4 * square, "zero": 0 * square}.items():
        row = row_of(save(tmp_path / f"{name}.wav", samples, subtype="FLOAT"), kind)
        assert (row["fatal"] + row["flaws"], row[column]) == ("silent, nowhere above -60 dBFS",) * 2
    faint = 1.2e-3 * square[: 10 * RATE]    # -58.4 dBFS
    late = np.append(np.zeros(20 * RATE), faint)    # -63.2 dBFS over all
    for name, samples in {"faint": faint, "short": faint[: 3 * RATE], "late": late}.items():
        row = row_of(save(tmp_path / f"{name}.wav", samples, subtype="FLOAT"), kind)
        assert "silent" not in row["fatal"] + row["flaws"]


@pytest.mark.parametrize("kind, seconds, flaws", [
    ("clean", 1.9, "only 1.9 s long"), ("clean", 2, ""), ("clean", 30, ""),
    ("clean", 31, "31 s long; slicer.py makes clips of it"),
    ("dirty", 3.9, "only 3.9 s long"), ("dirty", 4, ""), ("dirty", 31, ""),
])
def test_clips_outside_clip_s_are_named_and_dirty_recordings_shorter_than_a_segment(kind, seconds, flaws, tmp_path):
    path = save(tmp_path / "a.flac", bursts(seconds))
    assert flaws_of(path, kind) == flaws
    assert flaws_of(path, kind, clip_s=(0, 99), data=MixtureArgs(segment_s=1)) == ""


@pytest.mark.parametrize("other, share", [(None, 0.1), (0, 0.05), (-1, 0.1), (0.5, 0.05)])
def test_the_share_of_clipped_samples_is_that_of_all_channels(other, share, tmp_path):
    sine = np.sin(2 * np.pi * (np.arange(5 * RATE) + 0.5) / 240) / np.sin(0.45 * np.pi)    # 12 of 120 are above 1
    sine = sine if other is None else np.stack([sine, sine * other], axis=1)
    path = save(tmp_path / "a.wav", sine)
    assert row_of(path, "dirty")["clipped"] == pytest.approx(share)
    assert f"clipped: {share:.2%} of the samples are at full scale" in flaws_of(path, "dirty")


def test_what_touches_full_scale_hardly_ever_is_not_named_as_clipped(tmp_path):
    x = bursts(5)
    x[7000] = -1.0
    row = row_of(save(tmp_path / "a.wav", x))
    assert (row["clipped"], row["flaws"], row["peak_db"]) == (pytest.approx(1 / len(x)), "", pytest.approx(0, abs=1e-3))


def test_a_wav_file_that_is_cut_off_is_named_and_what_is_left_of_it_counts(tmp_path):
    path = save(tmp_path / "a.wav", bursts(10))
    path.write_bytes(path.read_bytes()[: 44 + 2 * 6 * RATE])
    row = row_of(path)
    assert (row["flaws"], row["seconds"]) == ("cut off at its end", 6)


@pytest.mark.parametrize("gains, named", [((1, -1), True), ((1, -0.9), True), ((1, 1), False), ((1, 0), False)])
def test_channels_that_cancel_each_other_are_named(gains, named, tmp_path):
    row = row_of(save(tmp_path / "a.wav", bursts(5)[:, None] * gains))
    assert row["flaws"] == "its channels cancel each other; keep one of them" * named
    assert row["fatal"] == "silent, nowhere above -60 dBFS" * (sum(gains) == 0)  # so it is for train.py


SQUARE = np.tile(np.repeat([1, -1], 12), RATE)  # 2 s


@pytest.mark.parametrize("samples", [
    np.append(np.zeros(10 * RATE), 1.5e-3 * SQUARE), np.append(np.zeros(9 * RATE), 1.5e-3 * SQUARE),
    np.full(5 * RATE, 0.01), 0.9e-3 * SQUARE, 1.1e-3 * SQUARE, np.outer(SQUARE, (0.1, -0.1)),
], ids=["loud end", "end in a silent piece", "constant", "below", "above", "channels that cancel"])
def test_what_is_silent_is_so_for_train_py_too(samples, tmp_path):
    path = save(tmp_path / "a.wav", samples, subtype="FLOAT")
    try:
        check_clean(path)
        refused = False
    except UserError:
        refused = True
    assert bool(row_of(path)["fatal"]) == refused


@pytest.mark.parametrize("offset, flaws", [
    ([-0.05], "a constant offset of 0.05 of full scale"), ([0.05, -0.05], "a constant offset of 0.05 of full scale"),
    ([0.015], ""),
])
def test_a_constant_offset_in_any_channel_is_named(offset, flaws, tmp_path):
    assert flaws_of(save(tmp_path / "a.wav", bursts(5)[:, None] + offset)) == flaws


@pytest.mark.parametrize("kind, db, hiss_db", [("clean", 0, None), ("clean", -24, None), ("clean", 0, -70),
                                               ("dirty", 0, None), ("dirty", -24, None)])
def test_sound_that_once_had_a_rate_of_16_khz_is_named_at_any_level_and_under_a_hiss(kind, db, hiss_db, tmp_path):
    x = soxr.resample(bursts(6, 16000), 16000, 44100) * gain(db)
    x = x if hiss_db is None else x + white(6, hiss_db, 44100)[: len(x)]
    path = save(tmp_path / "a.wav", x, 44100)
    assert re.fullmatch(r"nothing above (7\.[0-9]|8\.[0-3]) kHz, at a rate of 44100 Hz", flaws_of(path, kind))
    assert flaws_of(path, kind, bandwidth_hz=7000) == ""


@pytest.mark.parametrize("kind", ["clean", "dirty"])
@pytest.mark.parametrize("db", [0, -24])
def test_sound_over_the_whole_band_is_not_named(kind, db, tmp_path):
    row = row_of(save(tmp_path / "a.wav", bursts(6, 44100) * gain(db), 44100), kind)
    assert (row["flaws"], row["bandwidth_hz"]) == ("", 22050)


def test_a_rate_of_8_khz_is_named_by_what_it_cannot_hold(tmp_path):
    assert flaws_of(save(tmp_path / "a.wav", bursts(4, 8000), 8000)) == "nothing above 4.0 kHz, at a rate of 8000 Hz"


@pytest.mark.parametrize("speech_db, background_db, named", [
    (-20, -70, False), (-44, -80, False), (-20, -45, False), (-20, -35, True), (-40, -55, True),
])
def test_the_levels_of_background_and_speech_are_right_to_2_db_and_15_db_between_them_are_noisy(
    speech_db, background_db, named, tmp_path
):
    path = save(tmp_path / "a.wav", bursts(10, speech_db=speech_db, background_db=background_db), subtype="PCM_24")
    row = row_of(path)
    assert row["noise_floor_db"] == pytest.approx(background_db, abs=2)
    assert row["snr_db"] == pytest.approx(speech_db - background_db, abs=2)
    assert bool(re.fullmatch(r"noisy: its background is only 1[3-7] dB under the speech", row["flaws"])) == named
    assert named or row["flaws"] == ""
    assert flaws_of(path, "dirty") == flaws_of(path, snr_db=10) == ""


def test_a_clean_recording_of_even_noise_has_nothing_that_stands_out(tmp_path):
    path = save(tmp_path / "a.wav", white(5, -30))
    row = row_of(path, bandwidth_hz=0)
    assert (row["flaws"], row["snr_db"]) == ("nothing stands out from its background", "")
    assert flaws_of(path, "dirty") == ""


def listened(path: Path) -> tuple[dict, set[tuple[int, int]]]:
    """The row, and hashes with the frames that they stand at."""
    row, _, hashes, frames = examine(path, "clean", CheckArgs())
    return row, set(zip(hashes.tolist(), frames.tolist(), strict=True))


def test_a_recording_is_read_in_blocks_with_the_same_result(monkeypatch, tmp_path):
    x = talk(*TALK[:8], rate=RATE)      # 13.3 s: 3 blocks of 4 s and the rest
    path = save(tmp_path / "a.wav", np.stack([x, x + 0.05], axis=1))
    whole, micro_batch_size = listened(path)
    monkeypatch.setattr(check, "BLOCK_S", 4)
    row, in_blocks = listened(path)
    band = whole["rate"] / 2 / N_BANDS
    assert row.pop("bandwidth_hz") == pytest.approx(whole.pop("bandwidth_hz"), abs=2 * band)    # of other moments
    texts, numbers = ({k: v for k, v in row.items() if isinstance(v, str) == wanted} for wanted in (True, False))
    assert numbers == pytest.approx({k: whole[k] for k in numbers}, rel=1e-5, abs=1e-6)
    assert texts == {k: whole[k] for k in texts}
    assert len(in_blocks & micro_batch_size) > 0.7 * len(micro_batch_size) > 200


# ---------------------------------------------------------------------------------------------------------------------
# how high a sound reaches


def test_band_levels_are_of_equal_bands_up_to_half_the_rate_every_half_second():
    t = np.arange(3 * 8192) / 8192      # bands of 64 Hz
    x = np.sin(2 * np.pi * 992 * t) * np.where(t < 1.5, 1, 0.1) + 0.5 * np.sin(2 * np.pi * 3680 * t)
    levels = spectrogram_db(x.astype(np.float32), 8192)
    assert levels.shape == (6, 64)      # windows of half a second begin at 0, 0.5, ... 2.5 s
    assert [int(band) for band in np.argmax(levels, axis=1)] == [15, 15, 15, 57, 57, 57]    # 960 - 1024, 3648 - 3712
    np.testing.assert_allclose(levels[:, 15] - levels[:, 57], [6.02] * 3 + [-13.98] * 3, atol=0.1)
    assert np.delete(levels, [15, 57], axis=1).max() < levels.max() - 60
    assert spectrogram_db(x[:100].astype(np.float32), 8192).shape == (1, 64)


def table_of(*bands: tuple[float, float, int]) -> np.ndarray:
    """For each (edge in Hz, dB, moments): bands up to the edge are so loud in so many of 100 moments; else -90 dB."""
    levels = np.full((100, 64), -90.0)
    for edge, db, moments in bands:
        levels[:moments, : edge // 100] = np.maximum(levels[:moments, : edge // 100], db)
    return levels


@pytest.mark.parametrize("bands, moving, expected", [
    ([(1000, -20, 80)], False, 1000),
    ([(1000, -20, 80), (5000, -74, 80)], False, 5000),      # 54 dB under the loudest
    ([(1000, -20, 80), (5000, -76, 80)], False, 1000),
    ([(1000, -20, 80), (5000, -40, 3)], False, 5000),       # now and then
    ([(1000, -20, 80), (5000, -40, 1)], False, 1000),       # a click
    ([(1000, -20, 80), (5000, -50, 100)], False, 5000),     # hiss
    ([(1000, -20, 80), (5000, -50, 100)], True, 1000),
    ([(1000, -20, 80), (3000, -39, 80), (5000, -50, 100)], True, 3000),     # moves by 11 dB
    ([(1000, -20, 80), (3000, -41, 80), (5000, -50, 100)], True, 1000),
    ([(6400, -20, 100)], True, 0),
])
def test_the_bandwidth_is_the_upper_edge_of_the_highest_band_that_is_loud_at_times(bands, moving, expected):
    assert bandwidth(table_of(*bands), 12800, moving=moving) == expected
