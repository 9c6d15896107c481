"""What the full-band family promises."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import FULLBAND, noise
from torch.testing import assert_close

from fullband import FLOOR, FullBand, FullBandArgs, band_edges, band_levels, band_means


def make(args: FullBandArgs = FULLBAND) -> FullBand:
    torch.manual_seed(0)
    return FullBand(args)


@given(st.integers(9, 1100), st.data())
def test_every_bin_lies_in_one_band_and_bands_never_grow_narrower_by_more_than_rounding(n_bins, data):
    n_bands = data.draw(st.integers(2, n_bins))
    edges = band_edges(n_bins, n_bands)
    assert len(edges) == n_bands + 1 and (edges[0], edges[-1]) == (0, n_bins)
    widths = [b - a for a, b in zip(edges, edges[1:], strict=False)]
    assert min(widths) >= 1
    assert all(later >= earlier - 1 for earlier, later in zip(widths, widths[1:], strict=False))


def test_the_bands_of_2048_samples_have_a_bin_each_up_to_a_kilohertz():
    edges = band_edges(1025, 160)
    assert edges[:41] == list(range(41))  # 40 bins of 21.5 Hz
    growth = [(edges[i + 20] - edges[i]) / (edges[i] - edges[i - 20]) for i in (80, 100, 120, 140)]
    assert growth == pytest.approx([growth[0]] * 4, rel=0.1) and growth[0] > 1.5


def test_the_level_of_a_band_is_that_of_its_mean_magnitude():
    magnitudes, edges = noise(1, 3, 33).abs(), band_edges(33, 12)
    found = band_levels(magnitudes, band_means(33, 12))
    for k in range(12):
        mean = magnitudes[..., edges[k] : edges[k + 1]].mean(-1)
        assert_close(found[..., k], 0.5 * (mean + FLOOR).log() + 0.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1, 100, 1001])
def test_gains_of_one_return_the_mixture(n_samples):
    net, mixture = make(), noise(2, n_samples)
    net.gains = torch.ones_like
    assert_close(net(mixture), mixture, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_gain_is_its_bins_number_through_a_gate_for_how_far_the_bin_is_over_its_band():
    net, magnitudes, edges = make(), noise(1, 3, 33).abs(), band_edges(33, 12)
    for linear in (net.mask, net.gate):
        linear.weight.zero_()
    net.mask.bias.copy_(torch.linspace(0.2, 1, 33))
    net.gate.bias.copy_(torch.linspace(-6, 6, 24))  # slopes, then offsets
    gains = net.gains(magnitudes)
    for k in range(12):
        slope, offset = -6 + 12 * k / 23, -6 + 12 * (12 + k) / 23
        mean = magnitudes[0, :, edges[k] : edges[k + 1]].mean(-1)
        for f in range(edges[k], edges[k + 1]):
            ratio = (magnitudes[0, :, f] + FLOOR) / (mean + FLOOR)
            gate = 1 / (1 + math.exp(-offset) * ratio ** (-slope / 2))
            assert_close(gains[0, :, f], 2 * (0.2 + 0.8 * f / 32) * gate, rtol=1e-4, atol=1e-6)


def test_at_first_the_estimate_is_about_half_of_the_mixture():
    mixture = noise(1, 8000)
    error = make(FullBandArgs())(mixture) - 0.5 * mixture
    assert error.square().mean() < 0.1 * mixture.square().mean()


def test_every_frame_hears_all_others():
    net, magnitudes = make(), noise(1, 40, 33).abs()
    changed = magnitudes.clone()
    changed[:, 20] += 1
    assert ((net.gains(changed) - net.gains(magnitudes)).abs().amax((0, 2)) > 1e-7).all()
