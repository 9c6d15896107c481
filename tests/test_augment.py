"""What may be done to recordings."""

from dataclasses import replace

import numpy as np
import pytest
from mixing import items, power
from scipy.signal import fftconvolve
from scipy.stats import kstest

import augment
from augment import AugmentArgs
from dataset import MixtureDataset
from extractor import UserError
from extractor.material import find_material

RATE = 44100


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def hum(hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def level(x: np.ndarray) -> float:
    return 10 * np.log10(power(x))


# --- single ones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rt60_s", [0.2, 0.5])
@pytest.mark.parametrize("direct_db", [0.0, 10.0])
def test_a_room_falls_by_60_db_in_its_time_under_a_direct_sound_at_once(rt60_s, direct_db):
    response = augment.impulse_response(rt60_s, direct_db, np.random.default_rng(0), RATE).astype(np.float64)
    assert response[0] == 1 and not response[1 : round(augment.DRY_S * RATE)].any()
    rest = response[1:]
    assert 10 * np.log10(rest @ rest) == pytest.approx(-direct_db, abs=1e-3)
    left = 10 * np.log10(np.cumsum(np.square(rest[::-1]))[::-1])  # Schroeder 1965
    at = [np.argmax(left < left[0] - db) / RATE for db in (5, 35)]
    assert 2 * (at[1] - at[0]) == pytest.approx(rt60_s, rel=0.1)


def test_a_filter_has_its_gains_at_octaves_and_delays_nothing():
    gains = np.array([6.0, -6, 0, 3, -3, 12, -12, 0, 6, -6])
    assert len(gains) == augment.n_points(RATE)
    kernel = augment.kernel(RATE, augment.Microphone(gains, 0.0))
    for octave, db in enumerate(gains[2:-1], start=2):  # lower ones are nearer to each other than it tells apart
        x = hum(augment.EQ_HZ * 2**octave)
        middle = slice(RATE // 4, -RATE // 4)
        out = augment.filtered(x, kernel, augment.TAPS // 2)
        assert level(out[middle]) - level(x[middle]) == pytest.approx(db, abs=0.5)
        assert np.dot(out[middle], x[middle]) / np.dot(x[middle], x[middle]) == pytest.approx(10 ** (db / 20), rel=0.06)
    x = noise(0.5)
    flat = augment.kernel(RATE, augment.Microphone(np.zeros(10), 0.0))
    np.testing.assert_allclose(augment.filtered(x, flat, augment.TAPS // 2), x, atol=1e-6)


@pytest.mark.parametrize("n", [1, 700, 14336, 14337, 50_001])
@pytest.mark.parametrize("taps, middle", [(1, 0), (5, 2), (2049, 1024), (2049, 0), (2049, 2048), (20_000, 0)])
def test_filtering_is_the_convolution_from_the_middle_of_the_kernel_on(n, taps, middle):
    x, kernel = noise(n / RATE), np.random.default_rng(1).standard_normal(taps).astype(np.float32)
    out = augment.filtered(x, kernel, middle)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, fftconvolve(x.astype(float), kernel)[middle:][:n], atol=1e-4)


@pytest.mark.parametrize("edge", [0.02, 0.3])
def test_a_band_has_nothing_above_its_cutoff_and_all_below_its_edge(edge):
    x = noise(1)
    out = augment.filtered(x, augment.kernel(RATE, band=augment.Band(8000.0, edge)), augment.TAPS // 2)
    before, after = (np.abs(np.fft.rfft(y)) for y in (x, out))
    hz = np.fft.rfftfreq(RATE, 1 / RATE)
    assert np.square(after[hz > 8100]).sum() < 1e-4 * np.square(before[hz > 8100]).sum()
    below = hz < 8000 * (1 - edge) - 100
    np.testing.assert_allclose(after[below], before[below], rtol=0.05, atol=0.05 * before.max())


# --- in mixtures: at 1000 samples a second, with tones that tell the sources apart -----------------------------------


def augmented(args, n: int, **fields) -> list[dict]:
    data = MixtureDataset(find_material(args), args, 1000, split="train", augmented=replace(augment.OFF, **fields))
    return [{name: x.numpy() for name, x in data[0, i].items() if x.ndim} for i in range(n)]


def same(a: dict, b: dict) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in ("mixture", "target", "interference"))


def test_without_any_the_mixtures_are_those_of_before(folders):
    assert all(map(same, augmented(folders, 30), items(folders, 30)))


def draws(n: int, **fields) -> list[tuple]:
    rng = np.random.default_rng(0)
    captures = (augment.draw(replace(augment.OFF, **fields), rng, RATE) for _ in range(n))
    return [(capture.target_band, capture.source_band) for capture in captures]


def test_a_mixture_ends_early_as_a_whole_or_in_one_part_as_often_as_asked():
    found = draws(4000, p_band=0.4, p_target_band=0.2, p_source_band=0.1, cutoff_hz=(1000.0, 16000.0))
    assert all(a == b for a, b in found if a and b)
    both = np.mean([bool(a and b) for a, b in found])
    target, source = (np.mean([bool(x[i] and not x[1 - i]) for x in found]) for i in (0, 1))
    assert both == pytest.approx(0.4 + 0.6 * 0.2 * 0.1, abs=0.03)
    assert target == pytest.approx(0.6 * 0.2 * 0.9, abs=0.02) and source == pytest.approx(0.6 * 0.8 * 0.1, abs=0.02)
    octaves = [np.log2((a or b).cutoff_hz / 1000) for a, b in found if a or b]
    assert kstest(octaves, "uniform", (0, 4)).pvalue > 0.001
    assert draws(3) == [(None, None)] * 3


def test_hiss_lies_under_the_mixture_and_is_no_target(folders):
    args = replace(folders, p_no_target=0, p_no_interference=0)
    plain, hissing = (augmented(args, 30, **fields) for fields in ({}, {"p_hiss": 1.0, "hiss_db": (20.0, 20.0)}))
    for a, b in zip(plain, hissing, strict=True):
        gain = np.abs(b["target"]).max() / np.abs(a["target"]).max()  # where the sum would pass full scale
        np.testing.assert_allclose(b["target"], gain * a["target"], atol=1e-6)
        noise = b["interference"] - gain * a["interference"]
        assert level(noise) - level(gain * a["mixture"]) == pytest.approx(-20, abs=0.05)
        spectrum = np.square(np.abs(np.fft.rfft(noise)))
        assert spectrum.max() < 0.15 * spectrum.sum()  # no tone
    assert 0.05 < np.mean([not same(a, b) for a, b in zip(plain, augmented(args, 30, p_hiss=0.2), strict=True)]) < 0.5


def test_hiss_ends_where_the_mixture_does(folders):
    args = replace(folders, p_no_target=0, p_no_interference=0)
    shares = {"p_band": 1.0, "cutoff_hz": (200.0, 200.0), "p_hiss": 1.0, "hiss_db": (0.0, 0.0)}
    window = np.hanning(200) ** 2
    spectra = [np.square(np.abs(np.fft.rfft(window * x["interference"]))) for x in augmented(args, 20, **shares)]
    assert all(x[45:].sum() < 0.02 * x.sum() for x in spectra)  # from 225 Hz on


LINEAR = [
    {"p_target_room": 0.5}, {"p_source_mic": 0.5, "eq_db": 6.0}, {"p_target_mic": 0.5, "tilt_db": 3.0},
    {"p_band": 0.5, "cutoff_hz": (100.0, 300.0)}, {"p_target_band": 0.5, "cutoff_hz": (100.0, 300.0)},
    {"p_source_band": 0.5, "cutoff_hz": (100.0, 300.0)}, {"p_hiss": 0.5},
]


@pytest.mark.parametrize("name, only", [
    ("p_source_mic", {"p_no_interference": 1, "p_no_target": 0}),
    *((name, {"p_no_interference": 0, "p_no_target": 1}) for name in ("p_target_room", "p_target_mic")),
])
def test_what_is_of_the_target_leaves_all_else_as_it_was_and_the_other_way_around(name, only, folders):
    args = replace(folders, p_two_sources=0, **only)
    assert all(map(same, items(args, 10), augmented(args, 10, **{name: 1.0})))


@pytest.mark.parametrize("name, changed", [("p_target_band", "target"), ("p_source_band", "interference")])
def test_a_band_of_one_part_leaves_the_other(name, changed, folders):
    """At an SNR of its own, so that only the shape counts."""
    args = replace(folders, p_no_target=0, p_no_interference=0)
    other = {"target": "interference", "interference": "target"}[changed]
    for a, b in zip(with_a_band(args, 20), with_a_band(args, 20, **{name: 1.0}), strict=True):
        np.testing.assert_allclose(b[other] / np.abs(b[other]).max(), a[other] / np.abs(a[other]).max(), atol=1e-5)
        before, after = (np.abs(np.fft.rfft(np.hanning(200) ** 2 * x[changed])) for x in (a, b))
        assert after[36:].max() < 0.02 * before.max()  # from 180 Hz on


def with_a_band(args, n: int, **shares) -> list[dict]:
    """Whether there is one or not, as much is drawn: by a band that takes nothing."""
    cutoff = (150.0, 150.0) if shares else (1e6, 1e6)
    return augmented(args, n, cutoff_hz=cutoff, **(shares or {"p_band": 1.0}))


def response(rng: np.random.Generator, **fields) -> np.ndarray:
    """What becomes of a click in the middle of a second. [44100]"""
    click = np.zeros(RATE, np.float32)
    click[RATE // 2] = 1
    return augment.draw(replace(augment.OFF, **fields), rng, RATE).target(click)[0]


def test_every_range_is_drawn_from():
    rng = np.random.default_rng(0)
    room = response(rng, p_target_room=1.0, rt60_s=(0.3, 0.3), direct_db=(7.0, 7.0))[RATE // 2 + 1 :].astype(float)
    assert 10 * np.log10(room @ room) == pytest.approx(-7, abs=0.01)
    assert room[round(0.25 * RATE) :].round(5).any() and not room[round(0.3 * RATE) :].round(6).any()
    octaves = 125 * 2 ** np.arange(8)
    mic = {"p_target_mic": 1.0, "low_cut_hz": (1.0, 1.0), "eq_db": 0.0, "tilt_db": 0.0}

    def gains_db(**fields) -> np.ndarray:
        """Of 40 microphones at octaves from 125 Hz on. [40, 8]"""
        spectra = [np.abs(np.fft.rfft(response(rng, **mic | fields))) for _ in range(40)]
        return 20 * np.log10(np.array(spectra)[:, octaves])

    cut = gains_db(low_cut_hz=(400.0, 400.0))[0]
    assert cut[[0, 1, 2, 5]] == pytest.approx([-20.2, -8.8, -1.5, 0.0], abs=0.3)  # -10 log10(1 + (400 / hz)^4)
    slopes = np.diff(gains_db(tilt_db=3.0), axis=1)[:, 2:]
    assert 2.5 < slopes.max() < 3.2 and -3.2 < slopes.min() < -2.5
    jumps = np.diff(gains_db(eq_db=6.0), axis=1)
    assert 6 < np.abs(jumps).max() < 12.5


@pytest.mark.parametrize("dereverb, late_db", [("off", 0), ("mild", -10), ("full", -np.inf)])
def test_of_a_room_the_target_keeps_what_comes_within_50_ms_and_as_much_of_the_rest_as_asked(dereverb, late_db):
    click = np.zeros(RATE, np.float32)
    click[0] = 1
    for mic in (0.0, 1.0):
        args = replace(augment.OFF, p_target_room=1.0, p_target_mic=mic, low_cut_hz=(1.0, 1.0), dereverb=dereverb)
        heard, wanted = augment.draw(args, np.random.default_rng(0), RATE).target(click)
        early = round(0.05 * RATE) - mic * augment.TAPS  # a microphone smears it
        np.testing.assert_allclose(wanted[: int(early)], heard[: int(early)], atol=1e-6)
        late = slice(round(0.05 * RATE) + int(mic * augment.TAPS), None)
        np.testing.assert_allclose(wanted[late], 10 ** (late_db / 20) * heard[late], atol=1e-5)
        assert np.abs(heard[late]).max() > 1e-3


def test_a_rooms_late_sound_is_interference_and_the_mixture_the_same(folders):
    args = replace(folders, p_no_target=0)
    room = {"p_target_room": 1.0, "rt60_s": (0.2, 0.2), "direct_db": (-6.0, -6.0)}
    for a, b in zip(augmented(args, 20, **room), augmented(args, 20, **room, dereverb="full"), strict=True):
        gain = np.abs(b["mixture"]).max() / np.abs(a["mixture"]).max()  # where a part would pass full scale
        np.testing.assert_allclose(b["mixture"], gain * a["mixture"], atol=1e-5)
        late = np.abs(b["target"] - gain * a["target"]) > 1e-4  # samples, 1000 a second
        assert late.any() and np.argmax(late) >= np.argmax(np.abs(a["target"]) > 1e-4) + 50
        np.testing.assert_allclose(b["mixture"], b["target"] + b["interference"], atol=1e-6)


@pytest.mark.parametrize("fields", LINEAR, ids=lambda fields: next(iter(fields)))
def test_every_one_changes_mixtures_whose_parts_still_add_up(fields, folders):
    plain, changed = items(folders, 30), augmented(folders, 30, **fields)
    assert sum(not same(a, b) for a, b in zip(plain, changed, strict=True)) > 5
    assert all(map(same, changed, augmented(folders, 30, **fields)))  # again the same
    for item in changed:
        assert all(x.shape == (200,) and x.dtype == np.float32 for x in item.values())
        np.testing.assert_allclose(item["mixture"], item["target"] + item["interference"], atol=1e-6)
        assert max(np.abs(x).max() for x in item.values()) <= 1 + 1e-6


@pytest.mark.parametrize("field, value, limit", [
    ("p_target_mic", 1.5, "a share, 0 to 1"), ("p_source_band", -0.1, "a share, 0 to 1"), ("tilt_db", -1, "0 to 40 dB"),
    ("eq_db", 50, "0 to 40 dB"), ("rt60_s", (0.0, 1.0), "two numbers in order, each from 0.01 to 10"),
    ("direct_db", (3, 1), "two numbers in order"), ("low_cut_hz", (0.0, 9.0), "two numbers in order, each from 1"),
    ("cutoff_hz", (10, 100), "two numbers in order, each from"), ("p_band", 2, "a share"), ("p_hiss", -1, "a share"),
    ("hiss_db", (50, 20), "two numbers in order"), ("dereverb", "some", "off, mild, full"),
    ("rt60_s", (float("nan"), 1.0), "two numbers in order"),
])
def test_args_out_of_range_are_refused_by_name(field, value, limit):
    with pytest.raises(UserError, match=f"AugmentArgs.{field} = .*: give {limit}"):
        AugmentArgs(**{field: value})
