"""extractor/nonintrusive.py: scores without a target."""

import numpy as np
import pytest

from extractor import nonintrusive
from extractor.nonintrusive import LEAST_DB, MOST_DB, NAMES, scores

RATE, N = 16000, 32000
T = np.arange(N) / RATE
RNG = np.random.default_rng(0)


def filtered(x: np.ndarray, below: float, above: float) -> np.ndarray:
    """Gains below and above 2 kHz. [T] -> [T]"""
    spectrum = np.fft.rfft(x)
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    return np.fft.irfft(spectrum * np.where(hz < 2000, below, above), len(x)).astype(np.float32)


def tone(hz: float, gain: float = 0.1) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hz * T)).astype(np.float32)


def test_a_net_that_leaks_is_told_by_a_harder_mixture():
    """It keeps all below 2 kHz, and a tenth of what lies above: of a tone on either side the estimate has 1 and 0.1,
    that of the harder mixture 1 and 0.1 (0.1 + 2 x 0.9) = 0.19. Its part along the first is (1 + 0.019) / 1.01."""
    mixture = tone(500) + tone(4000)
    def leak(x):
        return filtered(x, 1, 0.1)
    along = (1 + 0.019) / 1.01
    wanted = 10 * np.log10(along**2 * 1.01 / ((1 - along) ** 2 + (0.19 - 0.1 * along) ** 2))
    assert scores(mixture, leak(mixture), leak, RATE)["harder_db"] == pytest.approx(wanted, abs=0.05)


def test_a_net_that_removes_all_of_the_interference_finds_the_same_in_a_harder_and_in_a_shifted_mixture():
    mixture = tone(500) + tone(4000)
    def ideal(x):
        return filtered(x, 1, 0)
    found = scores(mixture, ideal(mixture), ideal, RATE)
    assert found["harder_db"] == MOST_DB and found["shifted_db"] > 25  # a filter rings where the shift's silence ends


def test_levels_are_those_of_estimate_mixture_and_what_was_taken_away_overall_and_in_bands():
    mixture, estimate = tone(300) + tone(3000), tone(300) + tone(3000, 0.01)
    found = scores(mixture, estimate, lambda x: x, RATE)
    assert found["kept_db"] == pytest.approx(10 * np.log10(1.01 / 2), abs=0.01)
    assert found["removed_db"] == pytest.approx(10 * np.log10(1.01 / 0.81), abs=0.01)
    assert found["kept_0_db"] == pytest.approx(0, abs=0.01) and found["kept_2000_db"] == pytest.approx(-20, abs=0.1)


def test_pauses_are_told_from_speech():
    """A second of speech, a second of pause 30 dB lower, of which the mixture has 20 dB more."""
    noise = RNG.standard_normal(N).astype(np.float32)
    speaks = np.arange(N) % RATE < RATE // 2
    estimate = 0.1 * noise * np.where(speaks, 1, 10 ** (-30 / 20)).astype(np.float32)
    mixture = estimate * np.where(speaks, 1, 10).astype(np.float32)
    found = scores(mixture, estimate, lambda x: x, RATE)
    assert found["pause_db"] == pytest.approx(-31, abs=1.5) and found["pause_kept_db"] == pytest.approx(-20, abs=0.1)


def test_bandwidth_is_where_the_estimate_ends_and_clipping_is_the_mixture_s():
    mixture = (0.3 * RNG.standard_normal(N)).clip(-1, 1).astype(np.float32)
    found = scores(mixture, filtered(mixture, 1, 0), lambda x: x, RATE)
    assert found["bandwidth_hz"] == pytest.approx(2000, abs=RATE / 128 + 1)
    assert found["clipped"] == pytest.approx((np.abs(mixture) == 1).mean()) and found["clipped"] > 0


@pytest.mark.parametrize("n", [1, 50, 7000])
@pytest.mark.parametrize("gains", [(0, 0), (1, 0), (1, 1)])
def test_every_score_has_a_number_for_silence_too_and_for_any_length(n, gains):
    mixture, estimate = (gain * RNG.standard_normal(n).astype(np.float32) for gain in gains)
    found = scores(mixture, estimate, lambda x: x, RATE)
    assert found.keys() == {*NAMES} and np.isfinite([*found.values()]).all()
    in_db = [value for name, value in found.items() if name.endswith("_db")]
    assert LEAST_DB <= min(in_db) and max(in_db) <= MOST_DB


def test_level_alone_changes_no_score():
    mixture = tone(500) + tone(4000)
    loud, soft = (scores(g * mixture, g * tone(500), lambda x: 0.5 * x, RATE) for g in np.float32([1, 0.01]))
    assert {name: soft[name] for name in NAMES} == pytest.approx({name: loud[name] for name in NAMES}, abs=0.1)


def test_extract_is_given_mixtures_of_the_same_length_or_behind_a_silence():
    lengths = []
    scores(tone(500), tone(500), lambda x: lengths.append(len(x)) or x, RATE)
    assert sorted(lengths) == [N, N + round(nonintrusive.SHIFT * RATE)]
