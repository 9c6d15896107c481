"""What may be done to recordings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from mixing import GAME_HZ, VOICE_HZ, items, make_folders, only_clean, power, power_at, tone
from mixing import noise as noise_at_1000

from dataset import MixtureDataset
from extractor import UserError, augment
from extractor.augment import AugmentArgs
from extractor.material import find_material

RATE = 44100


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * generator(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def hum(hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def level(x: np.ndarray) -> float:
    return 10 * np.log10(power(x))


# ---------------------------------------------------------------------------------------------------------------------
# single ones


@pytest.mark.parametrize("rt60_s", [0.2, 0.5])
@pytest.mark.parametrize("direct_db", [0.0, 10.0])
def test_a_room_falls_by_60_db_in_its_time_under_a_direct_sound_at_once(rt60_s, direct_db):
    response = augment.impulse_response(rt60_s, direct_db, generator(), RATE).astype(np.float64)
    assert response[0] == 1 and not response[1 : round(augment.DRY_S * RATE)].any()
    rest = response[1:]
    assert 10 * np.log10(rest @ rest) == pytest.approx(-direct_db, abs=1e-3)
    left = 10 * np.log10(np.cumsum(np.square(rest[::-1]))[::-1])  # Schroeder 1965
    at = [np.argmax(left < left[0] - db) / RATE for db in (5, 35)]
    assert 2 * (at[1] - at[0]) == pytest.approx(rt60_s, rel=0.1)


def test_in_a_room_the_sound_keeps_its_place_and_length():
    click = np.zeros(1000, np.float32)
    click[300] = 1
    response = augment.impulse_response(0.3, 6.0, generator(), RATE)
    out = augment.in_a_room(click, response)
    assert out.dtype == np.float32 and out.shape == click.shape
    np.testing.assert_allclose(out, np.convolve(click, response)[:1000], atol=1e-6)
    assert not out[:300].round(6).any() and out[300] == pytest.approx(1, abs=1e-6)


def test_an_equaliser_has_its_gains_at_octaves_and_delays_nothing():
    gains = np.array([6.0, -6, 0, 3, -3, 12, -12, 0, 6, -6])
    assert len(gains) == augment.n_points(RATE)
    for octave, db in enumerate(gains[1:-1], start=1):
        x = hum(augment.EQ_HZ * 2**octave)
        middle = slice(RATE // 4, -RATE // 4)
        out = augment.equalised(x, gains, RATE)
        assert level(out[middle]) - level(x[middle]) == pytest.approx(db, abs=0.3)
        assert np.dot(out[middle], x[middle]) / np.dot(x[middle], x[middle]) == pytest.approx(10 ** (db / 20), rel=0.04)
    x = noise(0.5)
    np.testing.assert_allclose(augment.equalised(x, np.zeros(10), RATE), x, atol=1e-6)


def test_what_is_muffled_has_nothing_above_and_all_below():
    x = noise(1)
    before, after = (np.abs(np.fft.rfft(y)) for y in (x, augment.muffled(x, 8000.0, RATE)))
    hz = np.fft.rfftfreq(RATE, 1 / RATE)
    assert np.square(after[hz > 8100]).sum() < 1e-4 * np.square(before[hz > 8100]).sum()
    np.testing.assert_allclose(after[hz < 7000], before[hz < 7000], rtol=0.05, atol=0.05 * before.max())


def test_clipping_cuts_what_is_over_a_level_under_the_peak():
    x = np.array([0.1, -0.8, 0.3, 0.5], np.float32)
    np.testing.assert_allclose(augment.clipped(x, 20 * np.log10(2)), [0.1, -0.4, 0.3, 0.4], rtol=1e-6)
    assert not augment.clipped(np.zeros(4, np.float32), 6.0).any()


@pytest.mark.parametrize("n", [1000, 3 * 65536 + 17])
@pytest.mark.parametrize("compression", [0.2, 1.0])
def test_what_was_coded_has_its_length_place_and_level(n, compression):
    x = np.convolve(noise(n / RATE + 1), np.ones(20) / 20)[:n].astype(np.float32)
    out = augment.coded(x, compression, RATE)
    assert out.shape == x.shape and out.dtype == np.float32 and not np.array_equal(out, x)
    correlation = np.fft.irfft(np.fft.rfft(out, 2 * n) * np.conj(np.fft.rfft(x, 2 * n)))
    assert np.argmax(correlation) == 0
    assert level(out) - level(x) == pytest.approx(0, abs=1)
    assert power(out - x) < 0.5 * power(x)


def test_the_worse_the_coding_the_more_is_lost():
    x = noise(2)
    lost = [power(augment.coded(x, compression, RATE) - x) for compression in (0.0, 0.5, 1.0)]
    assert lost == sorted(lost) and lost[0] < 0.7 * lost[2]


# ---------------------------------------------------------------------------------------------------------------------
# in mixtures: at 1000 samples a second, with tones that tell the sources apart


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


def augmented(args, n: int, **fields) -> list[dict]:
    data = MixtureDataset(find_material(args), args, 1000, split="train", augmented=AugmentArgs(**fields))
    return [{name: x.numpy() for name, x in data[0, i].items() if x.ndim} for i in range(n)]


def same(a: dict, b: dict) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in ("mixture", "target", "interference"))


def test_without_any_the_mixtures_are_those_of_before(folders):
    assert all(map(same, augmented(folders, 30), items(folders, 30)))


LINEAR = [
    {"polarity": True}, {"more": 0.5}, {"rooms": 0.5}, {"target_rooms": 0.5}, {"eq_db": 6.0}, {"target_eq_db": 6.0},
    {"mixup": 0.5}, {"muffled": 0.5, "cutoff_hz": (100.0, 300.0)}, {"gain_db": (-6.0, 6.0)}, {"target_speed": 0.02},
]


@pytest.mark.parametrize("name, only", [
    *((name, {"alone": 1, "absent": 0}) for name in ("more", "rooms", "eq_db")),
    *((name, {"alone": 0, "absent": 1}) for name in ("target_rooms", "target_eq_db", "mixup", "target_speed")),
])
def test_what_is_of_the_target_leaves_all_else_as_it_was_and_the_other_way_around(name, only, folders):
    args = replace(folders, both=0, **only)
    fields = {name: {"eq_db": 6.0, "target_eq_db": 6.0, "target_speed": 0.02}.get(name, 1.0)}
    assert all(map(same, items(args, 10), augmented(args, 10, **fields)))


def test_every_range_is_drawn_from(folders, monkeypatch):
    given = {}

    def noted(name):
        function = getattr(augment, name)

        def note(*words):
            given.setdefault(name, set()).add(words[:2] if name == "impulse_response" else words[1])
            return function(*words)

        return note

    for name in ("impulse_response", "muffled", "clipped", "coded"):
        monkeypatch.setattr(augment, name, noted(name))
    ranges = {"rt60_s": (0.3, 0.3), "direct_db": (7.0, 7.0), "cutoff_hz": (200.0, 200.0), "clip_db": (4.0, 4.0),
              "coding": (0.7, 0.7), "gain_db": (-9.0, -9.0)}
    args = replace(folders, alone=0, absent=0)
    augmented(args, 3, rooms=1.0, muffled=1.0, clipped=1.0, coded=1.0, **ranges)
    found = {name: {round(float(x), 6) for one in values for x in np.ravel(one)} for name, values in given.items()}
    assert found == {"impulse_response": {0.3, 7.0}, "muffled": {200.0}, "clipped": {4.0}, "coded": {0.7}}
    for a, b in zip(items(args, 3), augmented(args, 3, gain_db=(-9.0, -9.0)), strict=True):
        np.testing.assert_allclose(b["mixture"], 10 ** (-9 / 20) * a["mixture"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fields", LINEAR, ids=lambda fields: next(iter(fields)))
def test_every_one_changes_mixtures_whose_parts_still_add_up(fields, folders):
    plain, changed = items(folders, 30), augmented(folders, 30, **fields)
    assert sum(not same(a, b) for a, b in zip(plain, changed, strict=True)) > 5
    assert all(map(same, changed, augmented(folders, 30, **fields)))  # again the same
    for item in changed:
        assert all(x.shape == (200,) and x.dtype == np.float32 for x in item.values())
        np.testing.assert_allclose(item["mixture"], item["target"] + item["interference"], atol=1e-6)
        assert max(np.abs(x).max() for x in item.values()) <= 1 + 1e-6


@pytest.mark.parametrize("fields", [{"clipped": 0.5}, {"coded": 0.5}])
def test_what_is_done_to_the_mixture_alone_leaves_target_and_interference(fields, folders):
    plain, changed = items(folders, 40), augmented(folders, 40, **fields)
    n = 0
    for a, b in zip(plain, changed, strict=True):
        assert np.array_equal(a["target"], b["target"]) and np.array_equal(a["interference"], b["interference"])
        n += not np.array_equal(a["mixture"], b["mixture"])
    assert 10 < n < 30


def test_polarity_turns_half_of_the_targets(folders):
    only_clean(folders, 0.1 + 0 * noise_at_1000(1))
    signs = [np.sign(item["target"].sum()) for item in augmented(replace(folders, absent=0), 200, polarity=True)]
    assert 70 < signs.count(-1) < 130 and signs.count(-1) + signs.count(1) == 200


@pytest.mark.parametrize("more, expected", [(0.0, [1, 0, 0]), (1.0, [0, 0, 1]), (0.5, [0.25, 0.5, 0.25])])
def test_there_are_up_to_three_sources(more, expected, folders, monkeypatch):
    counts, draws = [], []
    draw, over = MixtureDataset.dirty_segment, MixtureDataset.interference
    monkeypatch.setattr(MixtureDataset, "dirty_segment", lambda *a: draws.append(1) or draw(*a))

    def counted(*given):
        draws.clear()
        out = over(*given)
        counts.append(len(draws))
        return out

    monkeypatch.setattr(MixtureDataset, "interference", counted)
    augmented(replace(folders, alone=0, both=0), 200, more=more)
    assert [counts.count(n) / 200 for n in (1, 2, 3)] == pytest.approx(expected, abs=0.1)


def test_where_the_target_is_absent_more_sources_are_voices_too(folders):
    for item in augmented(replace(folders, absent=1, both=0, alone=0), 20, more=1.0):
        assert power_at(item["interference"], VOICE_HZ) > 1e6 * power_at(item["interference"], GAME_HZ)


def test_a_second_clip_of_the_target_is_in_the_target(folders):
    for i, hz in enumerate((50, 150)):
        sf.write(Path(folders.clean[0]) / f"src_{i}.wav", tone(1, hz), 1000, "FLOAT")
    sf.write(Path(folders.clean[0]) / "src_2.wav", tone(1, 150), 1000, "FLOAT")
    sf.write(Path(folders.clean[0]) / "src_3.wav", tone(1, 50), 1000, "FLOAT")
    args = replace(folders, absent=0, alone=1, both=0, max_shift=0)
    both = [min(power_at(x["target"], 50), power_at(x["target"], 150)) > 1e-5 for x in augmented(args, 100, mixup=1.0)]
    assert 25 < sum(both) < 75
    assert not any(min(power_at(x["target"], 50), power_at(x["target"], 150)) > 1e-5 for x in items(args, 100))


def test_the_target_is_at_most_two_percent_faster(folders):
    only_clean(folders, tone(1, 100))
    args = replace(folders, absent=0, alone=1, both=0, max_shift=0, segment_s=0.8)
    found = []
    for item in augmented(args, 60, target_speed=0.02):
        spectrum = np.abs(np.fft.rfft(item["target"] * np.hanning(800), 80_000))
        found.append(np.argmax(spectrum) / 80)
    assert 97.9 < min(found) < 98.7 and 101.3 < max(found) < 102.1
    slow = {round(np.argmax(np.abs(np.fft.rfft(x["target"] * np.hanning(800), 80_000))) / 80, 1)
            for x in augmented(args, 30, target_speed=0.005)}
    assert min(slow) < 99.8 and max(slow) > 100.2 and 99.4 < min(slow) and max(slow) < 100.6


@pytest.mark.parametrize("field, value, limit", [
    ("more", 1.5, "a share, 0 to 1"), ("coded", -0.1, "a share, 0 to 1"),
    ("target_speed", 0.03, "0, or 0.005 to 0.02; beyond it is another voice"), ("target_speed", 0.004, "0, or 0.005"),
    ("eq_db", 50, "0 to 40 dB"), ("rt60_s", (0.0, 1.0), "two numbers in order, from 0.01 on, to 10"),
    ("direct_db", (3, 1), "two numbers in order"), ("coding", (0.0, 2.0), "two numbers in order, from 0 on, to 1"),
    ("cutoff_hz", (10, 100), "two numbers in order, from 100 on"), ("muffled", 2, "a share"),
    ("gain_db", (float("nan"), 0.0), "two numbers in order"),
])
def test_args_out_of_range_are_refused_by_name(field, value, limit):
    with pytest.raises(UserError, match=f"AugmentArgs.{field} = .*: give {limit}"):
        AugmentArgs(**{field: value})
