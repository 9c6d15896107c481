"""Samples <-> spectra, for signals of any length.

B batch · T samples · F = n_fft/2 + 1 bins · L = 1 + T//hop frames
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from extractor import check_counts, require


@dataclass(frozen=True)
class SpectralArgs:
    """The fields that every net on spectra has. Refuses what has no inverse, and a hop so coarse that it is heard."""

    sample_rate: int = 44100   # Hz; travels with the weights
    n_fft: int = 2048          # samples, even
    hop: int = 512             # samples; at most n_fft/4

    def __post_init__(self):
        check_counts(self, "n_fft", "hop", "sample_rate")
        require(self, "n_fft", self.n_fft >= 16 and self.n_fft % 2 == 0, "give an even number of at least 16")
        quarter = self.n_fft // 4
        require(self, "hop", self.hop <= quarter, f"give at least 1 and at most a quarter of n_fft, {quarter}")

    @property
    def n_bins(self) -> int:
        return self.n_fft // 2 + 1


def level(signal: Tensor) -> Tensor:
    """Root mean square, never 0. At level 1 a net's epsilons are no part of the signal. [B, T] -> [B, 1]"""
    return signal.square().mean(-1, keepdim=True).clamp(min=1e-24).sqrt()


def window(n_fft: int, device: torch.device) -> Tensor:
    """Returns Hann's window, of energy 1. -> [n_fft]"""
    hann = torch.hann_window(n_fft, device=device)
    return hann / hann.square().sum().sqrt()


def stft(signal: Tensor, n_fft: int, hop: int) -> Tensor:
    """Zero-padded; white noise of level 1 has |X|^2 = 1 in the mean. [B, T] -> complex [B, F, L]"""
    # fp32: half precision has no FFT of most sizes, and its rounding would be heard
    hann = window(n_fft, signal.device)
    return torch.stft(signal.float(), n_fft, hop, window=hann, pad_mode="constant", return_complex=True)


def istft(spectrum: Tensor, n_fft: int, hop: int, n_samples: int) -> Tensor:
    """Inverts `stft`. complex [B, F, L] -> [B, n_samples]"""
    return Inverse.apply(spectrum.mT, n_fft, hop, n_samples)


class Inverse(torch.autograd.Function):
    """torch.istft, in less than half the time with its backward pass: frames are windowed, added and cut out in place,
    and what leads back is the same in reverse order. complex [B, L, F], n_fft, hop, n_samples -> [B, n_samples]"""

    @staticmethod
    def forward(ctx, spectrum: Tensor, n_fft: int, hop: int, n_samples: int) -> Tensor:
        ctx.window, ctx.hop, ctx.inside = window(n_fft, spectrum.device), hop, slice(n_fft // 2, n_fft // 2 + n_samples)
        ctx.weight = Inverse.overlap(ctx.window.square().expand(1, spectrum.shape[1], -1), hop)
        if spectrum.is_cuda:  # at some sizes cuFFT reads the imaginary parts of the two bins that have none
            spectrum = spectrum.clone()
            spectrum[..., :: n_fft // 2].imag.zero_()
        frames = torch.fft.irfft(spectrum, n_fft).mul_(ctx.window)
        return Inverse.overlap(frames, hop)[:, ctx.inside] / ctx.weight[:, ctx.inside]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        n_fft = len(ctx.window)
        padded = gradient.new_zeros(len(gradient), ctx.weight.shape[1])
        torch.div(gradient, ctx.weight[:, ctx.inside], out=padded[:, ctx.inside])
        out = torch.fft.rfft(padded.unfold(-1, n_fft, ctx.hop) * (ctx.window * (2 / n_fft)))
        out[..., 0] /= 2  # the two bins that have no other half
        out[..., -1] /= 2
        return out, None, None, None

    @staticmethod
    def overlap(frames: Tensor, hop: int) -> Tensor:
        """The sum of frames, each `hop` after the last. [B, L, n_fft] -> [B, (L - 1) hop + n_fft]"""
        batch, n_frames, n_fft = frames.shape
        out = frames.new_zeros(batch, n_frames + -(-n_fft // hop) - 1, hop)
        for i, part in enumerate(frames.split(hop, dim=-1)):
            out[:, i : i + n_frames, : part.shape[-1]] += part
        return out.flatten(1)[:, : (n_frames - 1) * hop + n_fft]
