"""The measures of an estimate, by hand and against asteroid's."""

import pytest
import torch
from asteroid.losses import singlesrc_neg_sisdr
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from extractor.metrics import attenuation, si_sdr, si_sdri

REFERENCE = torch.tensor([1.0, -1.0, 1.0, -1.0])
NOISE = torch.tensor([1.0, 1.0, -1.0, -1.0])  # as much energy, orthogonal, no mean
SILENCE = torch.zeros(4)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "estimate, expected",
    [
        (REFERENCE + NOISE, 0.0),
        (REFERENCE + 0.1 * NOISE, 20.0),
        (REFERENCE + 10 * NOISE, -20.0),
        (2 * REFERENCE + NOISE, 6.0206),  # 10 log10(16/4)
        (REFERENCE, 106.0206),            # 10 log10(4) over the floor of -100 dB
        (NOISE, -100.0),
        (SILENCE, -100.0),
    ],
)
def test_si_sdr_by_hand(estimate, expected):
    assert si_sdr(estimate=estimate, reference=REFERENCE).item() == pytest.approx(expected, abs=1e-3)


def test_si_sdr_of_a_silent_reference_is_the_floor_whatever_the_estimate():
    assert si_sdr(estimate=NOISE, reference=SILENCE).item() == pytest.approx(-100)
    assert si_sdr(estimate=SILENCE, reference=SILENCE).item() == pytest.approx(-100)


@given(st.floats(1e-2, 1e2), st.sampled_from([-1, 1]), st.floats(-10, 10), st.floats(-10, 10))
def test_si_sdr_hears_neither_level_nor_sign_nor_mean(level, sign, mean, other_mean):
    reference = noise(100, seed=0)
    estimate = reference + 0.3 * noise(100, seed=1)
    moved = si_sdr(estimate=sign * level * (estimate + mean), reference=reference + other_mean)
    assert_close(moved, si_sdr(estimate=estimate, reference=reference), atol=1e-3, rtol=0)


@given(st.floats(-40, 5), st.integers(0, 1000))
def test_si_sdr_is_asteroids(noise_db, seed):
    reference = noise(3, 200, seed=seed)
    estimate = reference + 10 ** (noise_db / 20) * noise(3, 200, seed=seed + 1)
    expected = -singlesrc_neg_sisdr(estimate, reference)
    assert_close(si_sdr(estimate=estimate, reference=reference), expected, atol=1e-3, rtol=0)


def test_si_sdri_is_what_was_gained_over_the_mixture():
    mixture = REFERENCE + NOISE  # 0 dB
    signals = {"mixture": mixture, "reference": REFERENCE}
    assert si_sdri(estimate=REFERENCE + 0.1 * NOISE, **signals).item() == pytest.approx(20, abs=1e-3)
    assert si_sdri(estimate=0.5 * mixture, **signals).item() == pytest.approx(0, abs=1e-3)
    assert si_sdri(estimate=SILENCE, **signals).item() == pytest.approx(-100, abs=1e-3)


@pytest.mark.parametrize(
    "estimate, mixture, expected",
    [
        (NOISE, NOISE, 0.0),
        (REFERENCE, NOISE, 0.0),
        (0.1 * NOISE, NOISE, -20.0),
        (SILENCE, NOISE, -106.0206),  # the floor of -100 dB over 10 log10(4)
        (SILENCE, SILENCE, 0.0),
    ],
)
def test_attenuation_by_hand(estimate, mixture, expected):
    assert attenuation(estimate=estimate, mixture=mixture).item() == pytest.approx(expected, abs=1e-3)


def test_every_measure_takes_signals_of_a_batch_one_by_one():
    mixture, estimate, reference = (noise(2, 3, 50, seed=seed) for seed in range(3))
    for measure, signals in [
        (si_sdr, {"estimate": estimate, "reference": reference}),
        (si_sdri, {"estimate": estimate, "mixture": mixture, "reference": reference}),
        (attenuation, {"estimate": estimate, "mixture": mixture}),
    ]:
        together = measure(**signals)
        assert together.shape == (2, 3)
        assert_close(together[1, 2], measure(**{name: signal[1, 2] for name, signal in signals.items()}))
