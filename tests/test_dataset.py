"""dataset.py: what a mixture is made of, how often, and what is refused before training starts.

Recordings here have 1000 samples a second and are told apart by their content: a ramp says where a part of it was cut,
a constant for each second says which second it is, a tone says which kind of source it is.
"""

import warnings
from collections import Counter
from dataclasses import replace
from itertools import combinations, cycle, islice
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from scipy.stats import binomtest, chisquare, kstest
from torch.utils.data import DataLoader

from dataset import KINDS, Keys, Material, MixtureArgs, MixtureDataset, Pool, Source, find_material, recording_of, shift
from extractor import UserError
from extractor.audio import Recording

RATE = 1000
GAME_HZ, VOICE_HZ = 100, 200
SPLITS = ("train", "valid")


def noise(seconds, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def tone(seconds, hz, peak=0.1):
    return peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def ramp(n):
    """Rises from 0.1 to 0.9: each value occurs once."""
    return np.linspace(0.1, 0.9, n, dtype=np.float32)


def save(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE, "FLOAT" if path.suffix == ".wav" else None)
    return path


@pytest.fixture
def folders(tmp_path):
    """Two clean recordings of 1 s, a game and a voice of 10 s; items of 0.2 s."""
    for i in range(2):
        save(tmp_path / f"datasets/clean/alice/src_{i}.wav", noise(1, seed=i))
    save(tmp_path / "datasets/dirty/pc/game/a.wav", tone(10, GAME_HZ))
    save(tmp_path / "datasets/dirty/pc/voices/a.wav", tone(10, VOICE_HZ))
    return MixtureArgs(
        clean=(str(tmp_path / "datasets/clean/alice"),), dirty=(str(tmp_path / "datasets/dirty/pc"),), segment_s=0.2,
        speed=(1, 1),
    )


def only_clean(args, samples):
    """The clean recordings, replaced: both have these samples, whichever is held out."""
    for i in range(2):
        save(Path(args.clean[0]) / f"src_{i}.wav", samples)


def mixtures(args, split="train"):
    return MixtureDataset(find_material(args), args, RATE, split=split)


def items(args, n, split="train"):
    """n items, as dicts of arrays."""
    data = mixtures(args, split)
    return [{name: x.numpy() for name, x in data[0, i].items()} for i in range(n)]


def power(x):
    return np.mean(np.square(x, dtype=np.float64))


def power_at(x, hz):
    """Of a tone in x [T], whose length is a multiple of the tone's period."""
    return 2 * np.abs(np.mean(x * np.exp(-2j * np.pi * hz * np.arange(len(x)) / RATE))) ** 2


# ---------------------------------------------------------------------------------------------------------------------
# an item is a function of (seed, epoch, index)


def test_keys_count_items_on_from_any_start():
    assert list(islice(Keys(5, per_epoch=3), 5)) == [(1, 2), (2, 0), (2, 1), (2, 2), (3, 0)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_workers_gives_the_items_that_the_keys_name(folders, workers):
    data = mixtures(folders)
    batches = islice(DataLoader(data, batch_size=3, sampler=Keys(5, per_epoch=8), num_workers=workers), 4)
    seen = [{name: x[i] for name, x in batch.items()} for batch in batches for i in range(3)]
    expected = [data[key] for key in [(0, 5), (0, 6), (0, 7), *((1, i) for i in range(8)), (2, 0)]]
    for item, same in zip(seen, expected, strict=True):
        assert all(torch.equal(item[name], same[name]) for name in ("mixture", "target", "interference"))


def test_another_seed_epoch_or_index_is_another_item(folders):
    only_clean(folders, noise(1))  # the same, whichever the seed holds out
    data = mixtures(folders)
    different = [data[0, 0], data[0, 1], data[1, 0], data[1, 1], mixtures(replace(folders, seed=1))[0, 0]]
    assert not any(torch.equal(a["mixture"], b["mixture"]) for a, b in combinations(different, 2))


# ---------------------------------------------------------------------------------------------------------------------
# the target


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, [1, 2, 3]), (1, [0, 1, 2]), (2, [0, 0, 1]), (3, [0, 0, 0]), (9, [0, 0, 0]), (-1, [2, 3, 0]), (-4, [0, 0, 0])],
)
def test_shift_moves_under_zero_padding_and_keeps_the_length(offset, expected):
    np.testing.assert_array_equal(shift(np.array([1, 2, 3]), offset), expected)


@pytest.mark.parametrize("max_shift", [0.25, 0.5, 0.9])
def test_the_target_is_shifted_left_and_right_by_a_uniform_share_of_max_shift(folders, max_shift):
    clip = ramp(200)
    only_clean(folders, clip)
    offsets = []
    for item in items(replace(folders, max_shift=max_shift, alone=1, absent=0, both=0), 2000):
        start = np.flatnonzero(item["target"])[0]
        offsets.append(start or -np.flatnonzero(clip == item["target"][0])[0])
        expected = np.concatenate([np.zeros(200), clip, np.zeros(200)])[200 - offsets[-1] :][:200]
        np.testing.assert_array_equal(item["target"], expected.astype(np.float32))

    reach = round(200 * max_shift)
    assert -reach <= min(offsets) < 0.98 * -reach and 0.98 * reach < max(offsets) <= reach
    assert kstest(offsets, "uniform", (-reach - 0.5, 2 * reach + 1)).pvalue > 0.001


def test_a_clip_shorter_than_the_segment_is_whole_somewhere_in_it(folders):
    clip = ramp(101)
    only_clean(folders, clip)
    starts = []
    for item in items(replace(folders, max_shift=0, alone=1, absent=0, both=0), 2000):
        starts.append(np.flatnonzero(item["target"])[0])
        np.testing.assert_array_equal(item["target"], np.pad(clip, (starts[-1], 99 - starts[-1])))
    assert kstest(starts, "uniform", (-0.5, 100)).pvalue > 0.001


@pytest.mark.parametrize("n", [250, 2000])
def test_a_clip_longer_than_the_segment_is_cropped_uniformly_from_its_start_to_its_end(folders, n):
    clip = ramp(n)
    only_clean(folders, clip)
    starts = []
    for item in items(replace(folders, max_shift=0, alone=1, absent=0, both=0), 2000):
        starts.append(np.flatnonzero(clip == item["target"][0])[0])
        np.testing.assert_array_equal(item["target"], clip[starts[-1] :][:200])
    assert kstest(starts, "uniform", (-0.5, n - 200 + 1)).pvalue > 0.001


# ---------------------------------------------------------------------------------------------------------------------
# the interference


def test_a_pool_draws_every_sample_of_its_sources_equally_often():
    sources = [Source(Recording(Path(f"{n}.wav"), RATE, 1, n), start=0, length=n) for n in (1, 2, 3)]
    pool, rng = Pool(sources), np.random.default_rng(0)
    counts = Counter((source.length, position) for source, position in (pool.draw(rng) for _ in range(6000)))
    assert sorted(counts) == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert chisquare(list(counts.values())).pvalue > 0.001


@pytest.mark.parametrize("place", [0, 1000, 1999])
def test_every_second_of_dirty_material_is_equally_likely_in_short_files_and_long_ones(folders, tmp_path, place):
    """Files of 2, 20 and 200 s, their first halves for training; of these 111 s, second k has the value k / 128."""
    for first, n in ((1, 1), (2, 10), (12, 100)):
        save(tmp_path / f"coded/{n}.wav", np.repeat(np.pad(np.arange(first, first + n), (0, n)), RATE) / 128)
    dirty = (str(tmp_path / "coded"),)
    args = replace(folders, dirty=dirty, segment_s=2, valid_share=0.5, absent=1, alone=0, both=0)

    seconds = np.array([item["interference"][place] for item in items(args, 2000)]) * 128

    assert chisquare(np.bincount(seconds.astype(int), minlength=112)[1:]).pvalue > 0.001
    assert seconds.min() == 1 and seconds.max() == 111


def test_a_dirty_recording_shorter_than_the_segment_goes_on_from_its_start(folders, tmp_path):
    save(tmp_path / "short/a.wav", ramp(100))  # of which 90 samples are for training
    args = replace(folders, dirty=(str(tmp_path / "short"),), absent=1, alone=0, both=0)
    for item in items(args, 20):
        start = np.flatnonzero(ramp(100) == item["interference"][0])[0]
        np.testing.assert_array_equal(item["interference"], ramp(100)[(start + np.arange(200)) % 90])


def test_a_mixture_has_no_target_no_interference_or_two_sources_as_often_as_asked(folders):
    n, args = 3000, replace(folders, absent=0.2, alone=0.1, both=0.3)
    absent = alone = both = 0
    for item in items(args, n):
        game, voice = (power_at(item["interference"], hz) > 1e-9 for hz in (GAME_HZ, VOICE_HZ))
        absent += not item["target"].any()
        alone += not item["interference"].any()
        both += game and voice
        if not item["target"].any():
            assert voice and not game  # other voices only
    for count, share in ((absent, 0.2), (alone, 0.1), (both, 0.3)):
        assert binomtest(count, n, share).pvalue > 0.001


def test_without_voices_the_target_is_absent_over_anything(folders, tmp_path):
    args = replace(folders, dirty=(str(tmp_path / "datasets/dirty/pc/game"),), absent=1, alone=0, both=0)
    for item in items(args, 20):
        assert not item["target"].any() and power_at(item["interference"], GAME_HZ) > 1e-9


def test_the_voice_over_a_game_is_as_loud_as_asked(folders):
    for item in items(replace(folders, voice_db=(4, 4), both=1, absent=0, alone=0), 100):
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
    args = replace(folders, speed=(0.5, 2), segment_s=1, absent=1, alone=0, both=0)  # voices only
    speeds = np.array(list(frequencies(args, 400))) / VOICE_HZ
    assert kstest(np.log2(speeds), "uniform", (-1, 2)).pvalue > 0.001
    valid = [hz for kind, hz in zip(cycle(KINDS), frequencies(args, 8, "valid"), strict=False) if kind != "both"]
    np.testing.assert_allclose(valid, [GAME_HZ, VOICE_HZ, VOICE_HZ] * 2, rtol=1e-3)


@pytest.mark.parametrize("n", [3, 500, 5000])
def test_at_any_speed_a_segment_is_of_the_part_for_training_and_whole(folders, tmp_path, n):
    train = np.full(n - n // 10, 0.1)
    save(tmp_path / "steady/a.wav", np.pad(train, (0, n // 10), constant_values=0.9))
    args = replace(folders, dirty=(str(tmp_path / "steady"),), speed=(0.25, 4), absent=1, alone=0, both=0)
    for item in items(args, 100):
        assert len(item["interference"]) == 200
        assert np.median(item["interference"]) == pytest.approx(0.1, abs=0.05)
        assert -0.1 < item["interference"].min() and item["interference"].max() < 0.6  # half of a step, and ringing


# ---------------------------------------------------------------------------------------------------------------------
# the sum


def snrs_db(args, n):
    return [10 * np.log10(power(i["target"]) / power(i["interference"])) for i in items(args, n) if i["target"].any()]


@pytest.mark.parametrize("peak", [0.1, 1, 500])
@pytest.mark.parametrize("snr_db", [-30, 0, 7.5, 30])
def test_the_snr_asked_for_is_reached_on_every_item_however_loud_the_sources_are(folders, snr_db, peak):
    only_clean(folders, peak * noise(1))
    for reached in snrs_db(replace(folders, snr_db=(snr_db, snr_db), alone=0), 100):
        assert reached == pytest.approx(snr_db, abs=0.01)


def test_the_snr_is_uniform_over_its_range(folders):
    reached = snrs_db(replace(folders, snr_db=(-5, 10), absent=0, alone=0), 2000)
    assert kstest(reached, "uniform", (-5, 15)).pvalue > 0.001


@pytest.mark.parametrize("peak", [1, 500])
def test_target_and_interference_add_up_to_the_mixture_exactly(folders, peak):
    only_clean(folders, peak * noise(1))
    for item in items(folders, 200):
        assert all(x.dtype == np.float32 and x.shape == (200,) for x in item.values())
        np.testing.assert_array_equal(item["target"] + item["interference"], item["mixture"])


def test_no_signal_passes_full_scale_and_the_target_is_turned_down_as_a_whole(folders):
    clip = 10 * noise(0.2)  # peak above 2
    only_clean(folders, clip)
    for item in items(replace(folders, max_shift=0, absent=0), 200):
        peaks = [np.abs(x).max() for x in item.values()]
        assert max(peaks) == pytest.approx(1, abs=1e-6)
        gain = item["target"][0] / clip[0]
        np.testing.assert_allclose(item["target"], gain * clip, rtol=0, atol=1e-6)


def test_a_mixture_below_full_scale_is_left_as_it_is(folders):
    clip = noise(0.2)
    only_clean(folders, clip)
    for item in items(replace(folders, max_shift=0, absent=0, snr_db=(10, 10)), 50):
        np.testing.assert_array_equal(item["target"], clip.astype(np.float32))


# ---------------------------------------------------------------------------------------------------------------------
# training and validation


@pytest.mark.parametrize(
    ("clip", "recording"),
    [
        ("alice/set/src_3_0.wav", ("alice/set", "src_3")),
        ("alice/set/src_3_12.flac", ("alice/set", "src_3")),
        ("alice/set/src_3.wav", ("alice/set", "src_3")),
        ("alice/set/src_31_0.wav", ("alice/set", "src_31")),
        ("alice/round_1/src_3_0.wav", ("alice/round_1", "src_3")),  # another recording of that number
        ("alice/set/evening_3_0.wav", ("alice/set", "evening_3_0")),
    ],
)
def test_clips_are_told_by_the_recording_they_were_cut_from(clip, recording):
    folder, name = recording
    assert recording_of(Path(clip)) == (Path(folder), name)


@pytest.mark.parametrize("valid_share", [0.01, 0.1, 0.5])
def test_clips_of_one_recording_are_all_for_training_or_all_for_validation(valid_share):
    names = [f"{s}/src_{n}_{k}.wav" for s in "ab" for n in range(9) for k in range(n + 1)]
    clips = [Recording(Path(name), RATE, 1, 5000 + i) for i, name in enumerate(names)]
    for seed in range(100):
        args = MixtureArgs(valid_share=valid_share, seed=seed)
        train, valid = ({s.recording for s in Material(clips, [], []).split(x, args, RATE)[0]} for x in SPLITS)
        assert train | valid == set(clips) and train and valid
        assert not {recording_of(r.path) for r in train} & {recording_of(r.path) for r in valid}
        assert sum(r.seconds for r in valid) >= valid_share * sum(r.seconds for r in clips)


def test_training_keeps_a_clean_recording_however_large_the_share_held_out():
    clips = [Recording(Path(f"src_{n}.wav"), RATE, 1, 5000) for n in range(3)]
    args = MixtureArgs(valid_share=0.99)
    assert [len(Material(clips, [], []).split(x, args, RATE)[0]) for x in SPLITS] == [1, 2]


@pytest.mark.parametrize("rate", [RATE, 1600])
def test_no_part_of_a_dirty_recording_is_both_for_training_and_for_validation(rate):
    dirty = [Recording(Path(f"{n}.wav"), rate, 1, n) for n in (100, 12345, 10**9)]
    clean = [Recording(Path(f"src_{n}.wav"), rate, 1, 5000) for n in range(2)]
    for valid_share in (0.01, 0.1, 0.37, 0.9):
        args = MixtureArgs(valid_share=valid_share)
        material = Material(clean, games=dirty, voices=dirty[:1])
        train, valid = ([*games, *voices] for _, games, voices in (material.split(x, args, RATE) for x in SPLITS))
        for a, b in zip(train, valid, strict=True):
            length = a.recording.length(RATE)
            assert a.recording == b.recording
            assert (a.start, a.start + a.length, b.start + b.length) == (0, b.start, length)
            assert b.length == pytest.approx(valid_share * length, abs=1)


def test_validation_mixtures_are_the_same_in_every_run(folders):
    args = replace(folders, n_valid=12)
    assert len(mixtures(args, "valid")) == 12
    for first, second in zip(items(args, 12, "valid"), items(args, 12, "valid"), strict=True):
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_validation_mixtures_are_of_four_kinds_in_turn(folders):
    assert KINDS == ("game", "voice", "both", "absent")
    expected = [(True, True, False), (True, False, True), (True, True, True), (False, False, True)]
    for i, item in enumerate(items(replace(folders, absent=0, both=0, alone=1), 12, "valid")):
        game, voice = (bool(power_at(item["interference"], hz) > 1e-9) for hz in (GAME_HZ, VOICE_HZ))
        assert (bool(item["target"].any()), game, voice) == expected[i % 4]


# ---------------------------------------------------------------------------------------------------------------------
# what is refused, in the user's words


def refusal(action, *args, **kwargs):
    with pytest.raises(UserError) as error:
        action(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("kind", ["clean", "dirty"])
def test_a_folder_that_does_not_exist_is_named(folders, kind):
    message = refusal(find_material, replace(folders, **{kind: ("datasets/nobody",)}))
    assert message == f"datasets/nobody: there is no such folder of {kind} recordings"


@pytest.mark.parametrize("kind", ["clean", "dirty"])
def test_a_folder_without_recordings_is_named(folders, tmp_path, kind):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    message = refusal(find_material, replace(folders, **{kind: (str(tmp_path / "empty"),)}))
    assert message == f"{tmp_path}/empty: no {kind} recordings; put .wav, .flac, .ogg, .oga files there"


@pytest.mark.parametrize("clean", ["clean/alice", "clean/alice/set_1", "clean"])
@pytest.mark.parametrize("dirty", ["dirty/alice", "dirty"])
def test_recordings_with_the_target_speaker_in_them_are_no_interference(folders, tmp_path, clean, dirty):
    datasets = tmp_path / "datasets"
    for name in ("clean/alice/set_1/src_8.wav", "clean/alice/set_1/src_9.wav", "dirty/alice/calls/a.wav"):
        save(datasets / name, noise(1))
    message = refusal(find_material, replace(folders, clean=(str(datasets / clean),), dirty=(str(datasets / dirty),)))
    assert message == (
        f"{datasets}/dirty/alice/calls: a dirty folder that holds the target speaker (alice); "
        "it is for infer.py, never training noise: leave it out of MixtureArgs.dirty"
    )


def test_a_clean_recording_is_no_interference(folders):
    message = refusal(find_material, replace(folders, dirty=folders.clean))
    assert message.startswith(f"{folders.clean[0]}: a dirty folder that holds the target speaker (clean files); ")


def test_clips_that_are_silent_unreadable_or_no_numbers_are_named_with_what_is_wrong(folders):
    silent, text, nan = (Path(folders.clean[0]) / f"src_{i}.wav" for i in (3, 4, 5))
    save(silent, np.zeros(1000))
    text.write_text("not a sound")
    save(nan, np.full(1000, np.nan))
    found = refusal(find_material, folders).split("; ")
    assert found[0] == f"recordings that cannot be used (3), move them away: {silent}: silent, nowhere above -60 dBFS"
    assert found[1].startswith(f"{text}: no sound file that can be read (")
    assert found[2] == f"{nan}: NaN or infinite samples near 0.0 s"


@pytest.mark.parametrize("level", [9e-4, 0.0])
def test_a_clip_is_silent_below_minus_60_dbfs_everywhere(folders, level):
    save(Path(folders.clean[0]) / "src_3.wav", np.full(30 * RATE, level))
    assert "src_3.wav: silent, nowhere above -60 dBFS" in refusal(find_material, folders)


def test_a_clip_with_sound_anywhere_is_not_silent(folders):
    save(Path(folders.clean[0]) / "src_3.wav", np.concatenate([np.zeros(25 * RATE), noise(1)]))
    assert len(find_material(folders).clean) == 3


@pytest.mark.parametrize("cut_s", [0.5, 9.5])
def test_a_dirty_recording_broken_at_its_start_or_end_is_refused(folders, cut_s):
    samples = noise(10)
    samples[round(cut_s * RATE)] = np.nan
    broken = save(Path(folders.dirty[0]) / "b.wav", samples)
    message = refusal(find_material, folders)
    assert message.startswith(f"recordings that cannot be used (1), move them away: {broken}: NaN")


def test_of_many_bad_recordings_the_first_five_are_named_and_the_others_counted(folders):
    for i in range(10, 18):
        save(Path(folders.clean[0]) / f"src_{i}.wav", np.zeros(1000))
    message = refusal(find_material, folders)
    assert message.startswith("recordings that cannot be used (8), ") and message.endswith("; and 3 more")
    assert [i for i in range(10, 18) if f"src_{i}.wav" in message] == [10, 11, 12, 13, 14]


def test_clips_of_one_clean_recording_only_are_refused(folders):
    clean = Path(folders.clean[0])
    (clean / "src_1.wav").rename(clean / "src_0_1.wav")
    assert refusal(mixtures, folders) == (
        f"{clean}: one clean recording only; validation needs another one: "
        "add a recording (src_<n>), or cut this one in two files"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment_s": 0}, "segment_s = 0: give a length of 0.01 s or more"),
        ({"segment_s": 1e-5}, "segment_s = 1e-05: give a length of 0.01 s or more"),
        ({"max_shift": 1}, "max_shift = 1: give a share of the segment, 0 to below 1"),
        ({"max_shift": -0.1}, "max_shift = -0.1: give a share of the segment, 0 to below 1"),
        ({"snr_db": (10, -5)}, "snr_db = (10, -5): the lower end comes first"),
        ({"voice_db": (1, 0)}, "voice_db = (1, 0): the lower end comes first"),
        ({"speed": (0.1, 1)}, "speed = (0.1, 1): give two numbers in order, each from 0.25 to 4"),
        ({"speed": (1, 5)}, "speed = (1, 5): give two numbers in order, each from 0.25 to 4"),
        ({"speed": (2, 1)}, "speed = (2, 1): give two numbers in order, each from 0.25 to 4"),
        ({"absent": -0.1}, "absent, alone and both are shares: none below 0, at most 1 together"),
        ({"absent": 0.5, "both": 0.6}, "absent, alone and both are shares: none below 0, at most 1 together"),
        ({"valid_share": 0}, "valid_share = 0: give a share between 0 and 1"),
        ({"valid_share": 1}, "valid_share = 1: give a share between 0 and 1"),
    ],
)
def test_args_outside_their_range_are_refused_with_the_range(fields, message):
    assert refusal(MixtureArgs, **fields) == f"MixtureArgs.{message}"


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_dirty_recording_broken_in_its_middle_is_named_once_and_passed_over(folders, suffix):
    broken = Path(folders.dirty[0]) / f"game/b{suffix}"
    samples = noise(30)
    if suffix == ".wav":
        samples[10 * RATE : 15 * RATE] = np.nan
    save(broken, samples)
    if suffix == ".flac":
        data = bytearray(broken.read_bytes())
        data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
        broken.write_bytes(data)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = items(replace(folders, alone=0), 100)

    assert len(caught) == 1 and str(caught[0].message).startswith(f"passed over: {broken}: ")
    assert all(np.isfinite(item["mixture"]).all() and item["interference"].any() for item in made)
