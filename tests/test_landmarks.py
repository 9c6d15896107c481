"""extractor/landmarks.py: the same sound is found again, others are not."""

import numpy as np
import pytest
import soxr
from speech import TALK, talk

from extractor.landmarks import FRAME_S, N_FFT, RATE, landmarks, same_sounds


def recording(seconds: float, seed: int = 0) -> np.ndarray:
    """Pauses are at the same places, whatever the seed."""
    return talk(*TALK, rate=RATE, seed=seed)[: round(seconds * RATE)].astype(np.float32)


def matches(*recordings: np.ndarray, groups=None) -> list:
    """Of whole recordings, each in a group of its own where none are given."""
    found = [landmarks(x) for x in recordings]
    groups = [np.full(len(h), i if groups is None else groups[i]) for i, (h, _) in enumerate(found)]
    return same_sounds([h for h, _ in found], [at for _, at in found], groups)


# --- landmarks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, N_FFT - 1, N_FFT, 5 * RATE])
def test_silence_and_what_is_shorter_than_a_window_have_no_landmarks_and_match_nothing(n):
    x = recording(15)
    for nothing in (np.zeros(n, np.float32), np.ones(min(n, N_FFT - 1), np.float32)):
        assert [len(found) for found in landmarks(nothing)] == [0, 0]
        assert [(match.a, match.b) for match in matches(nothing, x, nothing, x)] == [(1, 3)]
        assert matches(nothing, nothing) == []


# --- matches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [2, 3, 5, 8, 12])
def test_a_recording_and_its_copy_are_the_same_however_short_and_at_any_level(seconds):
    for seed, gain in enumerate((1, 4, 0.06, 0.01, 1)):
        match, = matches(x := recording(seconds, seed), np.float32(gain) * x)
        assert match.at_a_s == pytest.approx(match.at_b_s, abs=2 * FRAME_S)


def test_neither_different_recordings_with_pauses_at_the_same_places_nor_noise_match():
    rng = np.random.default_rng(0)
    assert matches(*(recording(20, seed) for seed in range(12))) == []
    assert matches(*(rng.standard_normal(20 * RATE).astype(np.float32) for _ in range(6))) == []


@pytest.mark.parametrize("kinds, same, found", [(20, 0, 0), (1000, 0, 0), (1000, 30, 1)])
def test_equal_hashes_are_a_match_where_more_have_one_offset_than_chance_gives(kinds, same, found):
    """5000 hashes of 20 kinds have some 1000 pairs within a frame of any offset; 1000 of 1000 kinds, one."""
    rng = np.random.default_rng(0)
    n = 5000 if kinds == 20 else 1000
    hashes, frames = rng.integers(kinds, size=(2, n)), rng.integers(3000, size=(2, n))
    hashes[1, :same], frames[1, :same] = hashes[0, :same], frames[0, :same] + 700
    matches = same_sounds([*hashes], [*frames], [np.zeros(n), np.ones(n)])
    assert [round((match.at_b_s - match.at_a_s) / FRAME_S) for match in matches] in ([], [699], [700], [701])
    assert len(matches) == found


@pytest.mark.parametrize("hz, peak", [(0, 2**-15), (0, 0.01), (50, 0.001)])
def test_three_seconds_of_the_same_constant_or_tone_are_not_the_same_sound(hz, peak):
    steady = peak * np.cos(2 * np.pi * hz * np.arange(3 * 44100) / 44100)
    recordings = []
    for seed in range(3):
        x = talk(*TALK, rate=44100, seed=seed)
        x[(3 + 4 * seed) * 44100 :][: len(steady)] = steady
        x = np.round(x * 2**15) / 2**15
        recordings.append(soxr.resample(x.astype(np.float32), 44100, RATE))
    assert matches(*recordings) == []


def test_a_pair_is_named_once_and_never_a_recording_with_itself():
    x = recording(15)
    found = matches(x, recording(15, seed=1), np.tile(x, 2), x)
    assert sorted((match.a, match.b) for match in found) == [(0, 2), (0, 3), (2, 3)]


def test_only_different_groups_are_looked_at():
    x = recording(15)
    found = matches(x, x, x, groups=[0, 1, 0])
    assert [(match.a, match.b) for match in found] == [(0, 1), (1, 2)]


def test_groups_are_of_hashes_so_that_only_parts_of_recordings_can_be_compared():
    hashes, frames = landmarks(recording(15))
    late = frames * FRAME_S >= 7.5
    twice = [hashes, hashes], [frames, frames]
    assert same_sounds(*twice, [late, late]) == []  # no second half is like a first half
    assert len(same_sounds(*twice, [late, ~late])) == 1
