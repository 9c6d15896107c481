"""How good an estimate is. Everything is [..., T] -> [...], in dB where nothing else is said, finite for silence."""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-10  # against 0/0; -100 dB of a signal of unit energy
TAPS = 512   # of the filter that SDR forgives, as in BSS Eval
HIGH_HZ = 8000
WINDOW_S = 0.0232   # of an STFT whose windows overlap by half: the nearest power of two
TILE_BINS, TILE_FRAMES = 16, 16


def energy(x: Tensor) -> Tensor:
    return x.float().square().sum(-1)


def decibel(ratio: Tensor) -> Tensor:
    return 10 * torch.log10(ratio)


def si_sdr(*, estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of Le Roux et al. (2019), means removed. It says nothing of a silent
    reference: there it is about -100 dB; use `relative_level`."""
    estimate, reference = (x.float() - x.float().mean(-1, keepdim=True) for x in (estimate, reference))
    scale = (estimate * reference).sum(-1, keepdim=True) / (energy(reference)[..., None] + EPS)
    target = scale * reference
    return decibel(energy(target) / (energy(estimate - target) + EPS) + EPS)  # a silent estimate: -100 dB, not 0


def si_sdri(*, estimate: Tensor, mixture: Tensor, reference: Tensor) -> Tensor:
    """What the extraction added: SI-SDR of the estimate minus SI-SDR of the untouched mixture."""
    return si_sdr(estimate=estimate, reference=reference) - si_sdr(estimate=mixture, reference=reference)


def relative_level(*, estimate: Tensor, reference: Tensor) -> Tensor:
    """Level of the estimate over that of the reference. With the mixture for reference: what is left of an absence."""
    return decibel((energy(estimate) + EPS) / (energy(reference) + EPS))


def sdr(*, estimate: Tensor, reference: Tensor) -> Tensor:
    """Signal-to-distortion ratio of BSS Eval 3 (Vincent et al. 2006), means removed: any filter of 512 taps on the
    reference is forgiven. In float64, at most 100 dB; of a silent reference, or a silent estimate, -100 dB."""
    estimate, reference = (x.double() - x.double().mean(-1, keepdim=True) for x in (estimate, reference))
    n = 1 << (reference.shape[-1] + TAPS - 1).bit_length()
    estimate_f, reference_f = (torch.fft.rfft(x, n) for x in (estimate, reference))
    correlation = torch.fft.irfft(reference_f.conj() * estimate_f, n)[..., :TAPS]
    autocorrelation = torch.fft.irfft(reference_f.abs().square(), n)[..., :TAPS]
    lags = torch.arange(TAPS, device=reference.device)
    matrix = autocorrelation[..., (lags[:, None] - lags).abs()]
    floor = EPS * autocorrelation[..., :1] + torch.finfo(matrix.dtype).tiny
    matrix = matrix + torch.diag_embed(floor.expand_as(autocorrelation))
    # one by one: once any thread has called torch.set_num_threads, torch 2.14 fails on several at a time (MKL's DLASWP)
    systems = zip(matrix.reshape(-1, TAPS, TAPS), correlation.reshape(-1, TAPS), strict=True)
    taps = torch.stack([torch.linalg.solve(*system) for system in systems]).reshape(correlation.shape)
    share = (correlation * taps).sum(-1) / (estimate.square().sum(-1) + torch.finfo(matrix.dtype).tiny)
    share = share.clamp(EPS, 1 - EPS)  # of the estimate's energy that is the filtered reference
    return decibel(share / (1 - share))


def level_error(*, estimate: Tensor, reference: Tensor) -> Tensor:
    """How much louder the target became, by the factor <e, x> / <x, x>; 0 is right. Opposite phase gives -100 dB."""
    factor = (estimate.float() * reference.float()).sum(-1) / (energy(reference) + EPS)
    return 2 * decibel(factor.clamp(min=EPS**0.5))


class Shares(NamedTuple):
    target_loss: Tensor      # share of the target's energy that is lost, 0 to 1
    leakage: Tensor    # of the interference's energy, what came through, dB; NaN where there is none
    high_lost: Tensor  # the same above 8 kHz; NaN where the target has nothing there
    high_kept: Tensor  # of the target's energy above 8 kHz, what came through, dB; NaN as above


def shares(*, estimate: Tensor, mixture: Tensor, reference: Tensor, sample_rate: int) -> Shares:
    """What became of the target's energy and of the interference's, each by itself.

    In every tile of 0.19 s x 0.7 kHz the estimate's STFT is explained by a times the target's and b times the
    interference's by least squares, as BSS Eval does with one gain (or filter) for the whole signal. The target keeps
    |a|^2 of its energy, and loses 1 - |a|^2 where |a| < 1; |b|^2 of the interference leaks. What neither explains, such
    as musical noise, counts for neither. An estimate that has nothing to do with either scores about -21 dB by chance.
    """
    n_fft = 2 ** max(0, round(math.log2(WINDOW_S * sample_rate)))
    window = torch.hann_window(n_fft, device=reference.device)
    interference = mixture.float() - reference.float()
    e, x, d = (tiles(s.float(), n_fft, window) for s in (estimate, reference, interference))

    def inner(u: Tensor, v: Tensor) -> Tensor:
        return (u.conj() * v).sum(-1)

    xx, dd, xd, xe, de = inner(x, x).real, inner(d, d).real, inner(x, d), inner(x, e), inner(d, e)
    floor = 1e-8 * (xx + dd).amax((-1, -2), keepdim=True) + EPS  # what is 80 dB under the loudest tile explains nothing
    determinant = (xx + floor) * (dd + floor) - xd.abs().square()
    a = ((dd + floor) * xe - xd * de) / determinant
    b = ((xx + floor) * de - xd.conj() * xe) / determinant

    bands_hz = torch.arange(xx.shape[-2], device=xx.device) * TILE_BINS * sample_rate / n_fft
    high = (bands_hz >= HIGH_HZ)[:, None]
    treble = (high * xx).sum((-1, -2))
    treble = torch.where(treble > 1e-7 * xx.sum((-1, -2)), treble, torch.nan)  # -70 dB of the speech is its noise floor
    kept = a.abs().square() * xx
    lost = (1 - a.abs().square()).clamp(min=0) * xx
    return Shares(
        target_loss=lost.sum((-1, -2)) / (xx.sum((-1, -2)) + EPS),
        leakage=decibel((b.abs().square() * dd).sum((-1, -2)) / dd.sum((-1, -2)) + EPS),
        high_lost=(high * lost).sum((-1, -2)) / treble,
        high_kept=decibel((high * kept).sum((-1, -2)) / treble + EPS),
    )


def tiles(x: Tensor, n_fft: int, window: Tensor) -> Tensor:
    """Returns the STFT in pieces of 16 bins x 16 frames. [..., T] -> [..., bands, times, 256]"""
    batch, x = x.shape[:-1], x.reshape(-1, x.shape[-1])
    spectrum = torch.stft(x, n_fft, n_fft // 2, window=window, pad_mode="constant", return_complex=True)
    spectrum = F.pad(spectrum, (0, -spectrum.shape[-1] % TILE_FRAMES, 0, -spectrum.shape[-2] % TILE_BINS))
    spectrum = rearrange(spectrum, "b (f i) (l j) -> b f l (i j)", i=TILE_BINS, j=TILE_FRAMES)
    return spectrum.reshape(*batch, *spectrum.shape[1:])
