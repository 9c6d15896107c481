"""dataset.py: what a mixture is made of, and how often."""

from dataclasses import replace
from itertools import combinations, cycle, islice

import numpy as np
import pytest
import torch
from mixing import GAME_HZ, RATE, VOICE_HZ, all_clean, items, mixtures, noise, power, power_at, save, tone
from scipy.stats import binomtest, chisquare, kstest
from torch.utils.data import DataLoader

from dataset import KINDS, TrainingSampler
from extractor.material import find_material

VOICES_ONLY = {"p_no_target": 1, "p_no_interference": 0, "p_two_sources": 0}
TARGET_ONLY = {"p_no_target": 0, "p_no_interference": 1, "p_two_sources": 0}
ONE_SOURCE = {"p_no_target": 0, "p_no_interference": 0, "p_two_sources": 0}
BOTH_ONLY = {"p_no_target": 0, "p_no_interference": 0, "p_two_sources": 1}


def ramp(n):
    """Rises from 0.1 to 0.9: each value occurs once, so that it says where a part of it was cut."""
    return np.linspace(0.1, 0.9, n, dtype=np.float32)


# --- an item is a function of (seed, epoch, index) -------------------------------------------------------------------


def test_processes_share_the_items_of_every_step_from_any_step_on():
    parts = (islice(TrainingSampler(1, 6, 2, first=3 * rank, n=3), 6) for rank in (0, 1))
    firsts = (0, 6), (0, 7), (0, 8), (1, 0), (1, 1), (1, 2)
    assert list(zip(*parts, strict=True)) == [((epoch, i), (epoch, i + 3)) for epoch, i in firsts]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_workers_gives_the_items_that_the_keys_name(folders, workers):
    data = mixtures(folders)
    batches = islice(DataLoader(data, batch_size=3, sampler=TrainingSampler(5, 1, 8, 0, 1), num_workers=workers), 4)
    seen = [{name: x[i] for name, x in batch.items()} for batch in batches for i in range(3)]
    expected = [data[key] for key in [(0, 5), (0, 6), (0, 7), *((1, i) for i in range(8)), (2, 0)]]
    for item, same in zip(seen, expected, strict=True):
        assert all(torch.equal(item[name], same[name]) for name in ("mixture", "target", "interference"))


def test_another_seed_epoch_or_index_is_another_item(folders):
    all_clean(folders, noise(1))  # the same, whichever the seed holds out
    data = mixtures(folders)
    different = [data[0, 0], data[0, 1], data[1, 0], data[1, 1], mixtures(replace(folders, seed=1))[0, 0]]
    assert not any(torch.equal(a["mixture"], b["mixture"]) for a, b in combinations(different, 2))


# --- the target ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_shift", [0.25, 0.9])
def test_the_target_is_shifted_left_and_right_by_a_uniform_share_of_max_shift(folders, max_shift):
    clip = ramp(200)
    all_clean(folders, clip)
    offsets = []
    for item in items(replace(folders, max_shift=max_shift, **TARGET_ONLY), 2000):
        start = np.flatnonzero(item["target"])[0]
        offsets.append(start or -np.flatnonzero(clip == item["target"][0])[0])
        expected = np.concatenate([np.zeros(200), clip, np.zeros(200)])[200 - offsets[-1] :][:200]
        np.testing.assert_array_equal(item["target"], expected.astype(np.float32))

    reach = round(200 * max_shift)
    assert -reach <= min(offsets) < 0.98 * -reach and 0.98 * reach < max(offsets) <= reach
    assert kstest(offsets, "uniform", (-reach - 0.5, 2 * reach + 1)).pvalue > 0.001


@pytest.mark.parametrize("n", [101, 250, 2000])
def test_a_shorter_clip_lies_whole_anywhere_in_the_segment_and_a_longer_one_is_cropped_anywhere(folders, n):
    clip = ramp(n)
    all_clean(folders, clip)
    padded, starts = np.pad(clip, max(0, 200 - n)), []
    for item in items(replace(folders, max_shift=0, **TARGET_ONLY), 2000):
        starts.append(np.flatnonzero(padded == item["target"][100])[0] - 100)
        np.testing.assert_array_equal(item["target"], padded[starts[-1] :][:200])
    assert kstest(starts, "uniform", (-0.5, abs(n - 200) + 1)).pvalue > 0.001


# --- the interference ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1999])
def test_every_second_of_dirty_material_is_equally_likely_in_short_files_and_long_ones(folders, tmp_path, place):
    """Files of 2, 20 and 200 s, their first halves for training; of these 111 s, second k has the value k / 128."""
    for first, n in ((1, 1), (2, 10), (12, 100)):
        save(tmp_path / f"coded/{n}.wav", np.repeat(np.pad(np.arange(first, first + n), (0, n)), RATE) / 128)
    dirty = (str(tmp_path / "coded"),)
    args = replace(folders, dirty=dirty, segment_s=2, valid_share=0.5, **VOICES_ONLY)

    seconds = np.array([item["interference"][place] for item in items(args, 2000)]) * 128

    assert chisquare(np.bincount(seconds.astype(int), minlength=112)[1:]).pvalue > 0.001
    assert seconds.min() == 1 and seconds.max() == 111


def test_a_dirty_recording_shorter_than_the_segment_goes_on_from_its_start(folders, tmp_path):
    save(tmp_path / "short/a.wav", ramp(100))  # of which 90 samples are for training
    args = replace(folders, dirty=(str(tmp_path / "short"),), **VOICES_ONLY, valid_share=0.1)
    for item in items(args, 20):
        start = np.flatnonzero(ramp(100) == item["interference"][0])[0]
        np.testing.assert_array_equal(item["interference"], ramp(100)[(start + np.arange(200)) % 90])


def test_a_mixture_has_no_target_no_interference_or_two_sources_as_often_as_asked(folders):
    n, args = 3000, replace(folders, p_no_target=0.2, p_no_interference=0.1, p_two_sources=0.3)
    absent = alone = both = 0
    for item in items(args, n):
        game, voice = (power_at(item["interference"], hz) > 1e-9 for hz in (GAME_HZ, VOICE_HZ))
        absent += not item["target"].any()
        alone += not item["interference"].any()
        both += game and voice
        if not item["target"].any():
            assert voice and not game  # other voices only
    for count, share in ((absent, 0.2), (alone, 0.1), (both, 0.7 * 0.3)):
        assert binomtest(count, n, share).pvalue > 0.001


@pytest.mark.parametrize("voice", [0.0, 0.3, 1.0])
def test_one_source_is_a_voice_as_often_as_asked_however_many_minutes_there_are_of_each(folders, tmp_path, voice):
    save(tmp_path / "datasets/dirty/pc/voices/b.wav", tone(100, VOICE_HZ))
    args = replace(folders, **ONE_SOURCE, p_voice=voice)
    voices = sum(power_at(item["interference"], VOICE_HZ) > 1e-9 for item in items(args, 600))
    assert binomtest(voices, 600, voice).pvalue > 0.001


def test_without_voices_the_target_is_absent_over_anything(folders, tmp_path):
    args = replace(folders, dirty=(str(tmp_path / "datasets/dirty/pc/game"),), **VOICES_ONLY)
    for item in items(args, 20):
        assert not item["target"].any() and power_at(item["interference"], GAME_HZ) > 1e-9


def test_the_voice_over_a_game_is_as_loud_as_asked(folders):
    for item in items(replace(folders, voice_db=(4, 4), **BOTH_ONLY), 100):
        voice, game = (power_at(item["interference"], hz) for hz in (VOICE_HZ, GAME_HZ))
        assert 10 * np.log10(voice / game) == pytest.approx(4, abs=0.01)


def frequencies(args, n, split="train"):
    """Of the one tone in the interference of each item, by the parabola through the peak of its log spectrum."""
    for item in items(args, n, split):
        x = item["interference"]
        spectrum = np.log(np.abs(np.fft.rfft(x * np.hanning(len(x)), 8 * len(x))))
        k = spectrum.argmax()
        a, b, c = spectrum[k - 1 : k + 2]
        yield (k + 0.5 * (a - c) / (a - 2 * b + c)) * RATE / (8 * len(x))


def test_interference_is_played_at_a_log_uniform_speed_in_training_and_as_it_is_in_validation(folders):
    args = replace(folders, speed=(0.5, 2), segment_s=1, **VOICES_ONLY)  # voices only
    speeds = np.array(list(frequencies(args, 400))) / VOICE_HZ
    assert kstest(np.log2(speeds), "uniform", (-1, 2)).pvalue > 0.001
    valid = [hz for kind, hz in zip(cycle(KINDS), frequencies(args, 8, "valid"), strict=False) if kind != "both"]
    np.testing.assert_allclose(valid, [GAME_HZ, VOICE_HZ, VOICE_HZ] * 2, rtol=1e-3)


@pytest.mark.parametrize("n", [3, 500, 5000])
def test_at_any_speed_a_segment_is_of_the_part_for_training_and_whole(folders, tmp_path, n):
    train = np.full(n - n // 10, 0.1)
    save(tmp_path / "steady/a.wav", np.pad(train, (0, n // 10), constant_values=0.9))
    args = replace(folders, dirty=(str(tmp_path / "steady"),), speed=(0.25, 4), **VOICES_ONLY)
    for item in items(args, 100):
        assert len(item["interference"]) == 200
        assert np.median(item["interference"]) == pytest.approx(0.1, abs=0.05)
        assert -0.1 < item["interference"].min() and item["interference"].max() < 0.6  # half of a step, and ringing


# --- the sum ---------------------------------------------------------------------------------------------------------


def snrs_db(args, n):
    return [10 * np.log10(power(i["target"]) / power(i["interference"])) for i in items(args, n) if i["target"].any()]


@pytest.mark.parametrize("peak", [0.1, 1, 500])
@pytest.mark.parametrize("snr_db", [-30, 0, 7.5, 30])
def test_the_snr_asked_for_is_reached_on_every_item_however_loud_the_sources_are(folders, snr_db, peak):
    all_clean(folders, peak * noise(1))
    for reached in snrs_db(replace(folders, snr_db=(snr_db, snr_db), p_no_interference=0), 100):
        assert reached == pytest.approx(snr_db, abs=0.01)


def test_the_snr_is_uniform_over_its_range(folders):
    reached = snrs_db(replace(folders, snr_db=(-5, 10), p_no_target=0, p_no_interference=0), 2000)
    assert kstest(reached, "uniform", (-5, 15)).pvalue > 0.001


@pytest.mark.parametrize("peak", [1, 500])
def test_target_and_interference_add_up_to_the_mixture_exactly(folders, peak):
    all_clean(folders, peak * noise(1))
    for item in items(folders, 200):
        assert all(x.dtype == np.float32 and x.shape == (200,) for x in item.values())
        np.testing.assert_array_equal(item["target"] + item["interference"], item["mixture"])


def test_no_signal_passes_full_scale_and_the_target_is_turned_down_as_a_whole(folders):
    clip = 10 * noise(0.2)  # peak above 2
    all_clean(folders, clip)
    for item in items(replace(folders, max_shift=0, p_no_target=0), 200):
        peaks = [np.abs(x).max() for x in item.values()]
        assert max(peaks) == pytest.approx(1, abs=1e-6)
        gain = item["target"][0] / clip[0]
        np.testing.assert_allclose(item["target"], gain * clip, rtol=0, atol=1e-6)


def test_an_item_has_a_seed_of_its_own(folders):
    data = mixtures(folders)
    seeds = [data[epoch, index]["seed"].item() for epoch in range(2) for index in range(20)]
    assert kstest(seeds, "uniform", (0, 2**62)).pvalue > 0.001 and len(set(seeds)) == 40
    assert seeds == [mixtures(folders)[epoch, index]["seed"].item() for epoch in range(2) for index in range(20)]


# --- silence ---------------------------------------------------------------------------------------------------------


def test_where_it_is_silent_it_is_drawn_again(folders, tmp_path):
    save(tmp_path / "half/game.wav", np.append(tone(10, GAME_HZ), np.zeros(10 * RATE)))
    args = replace(folders, dirty=(str(tmp_path / "half"),), **ONE_SOURCE)
    assert min(power(item["interference"]) for item in items(args, 60)) > 1e-6


def test_over_silence_no_level_can_be_set_and_nothing_is_made_up(folders, tmp_path):
    save(tmp_path / "datasets/dirty/pc/voices/a.wav", np.zeros(10 * RATE))
    for item in items(replace(folders, **BOTH_ONLY), 10):
        assert all(np.isfinite(x).all() for x in item.values()) and power_at(item["interference"], GAME_HZ) > 1e-4


def test_a_dirty_folder_may_itself_be_the_scene_of_voices(folders, tmp_path):
    voices = str(tmp_path / "datasets/dirty/pc/voices")
    found = find_material(replace(folders, dirty=(voices,)))
    assert len(found.voices) == 1 and not found.games
