"""Samples <-> spectra."""


import numpy as np
import pytest
import torch
from scipy.signal import get_window
from torch.testing import assert_close

from extractor import spectrum


@pytest.mark.parametrize("n_fft, hop", [(2048, 512), (64, 16), (64, 9)])
@pytest.mark.parametrize("n_samples", [1, 15, 63, 64, 65, 4001])
def test_the_inverse_returns_the_signal(n_fft, hop, n_samples):
    signal = torch.randn(2, n_samples)
    there = spectrum.stft(signal, n_fft, hop)
    assert there.shape == (2, n_fft // 2 + 1, 1 + n_samples // hop)
    assert_close(spectrum.istft(there, n_fft, hop, n_samples), signal, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_fft, hop", [(64, 16), (64, 9), (30, 7), (16, 1)])
@pytest.mark.parametrize("n_samples", [1, 63, 64, 400])
def test_the_inverse_and_its_gradient_are_those_of_torch(n_fft, hop, n_samples):
    """Of spectra that belong to no signal, with an imaginary part where a signal has none."""
    parts = torch.randn(3, n_fft // 2 + 1, 1 + n_samples // hop, 2, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.view_as_complex(parts).clone().requires_grad_() for _ in range(2))
    found = spectrum.istft(ours, n_fft, hop, n_samples)
    expected = torch.istft(theirs, n_fft, hop, window=spectrum.window(n_fft, parts.device), length=n_samples)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    towards = torch.linspace(-1, 1, n_samples)
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)


def test_a_frame_is_the_fourier_transform_of_the_windowed_signal():
    signal, window = torch.randn(1, 400), get_window("hann", 64)
    frame = np.fft.rfft(signal[0, 160 - 32 : 160 + 32].numpy() * window) / np.sqrt((window**2).sum())
    assert_close(spectrum.stft(signal, 64, 16)[0, :, 10].numpy(), frame, rtol=0, atol=1e-5, check_dtype=False)


def test_the_level_of_silence_can_be_divided_by():
    assert (torch.zeros(1, 10) / spectrum.level(torch.zeros(1, 10))).tolist() == [[0.0] * 10]
    assert spectrum.level(torch.tensor([[3.0, -3.0], [0.5, 0.5]])).tolist() == [[3.0], [0.5]]
