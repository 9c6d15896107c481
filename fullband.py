"""A full-band network light enough to train on a CPU: a recurrent net over whole frames, a gain for every bin.

B batch · T samples · F bins · L frames · K bands · D width · H LSTM units per direction

The levels of K bands, a bin each where the harmonics of a voice lie and wider above, are one vector a frame; a few
bidirectional LSTMs read the frames; out come, through one hidden layer, a number m for every bin, a slope a and an
offset b for every band. With u the level of the mixture in a bin and v that of its band,

    gain = 2 m sigmoid(a (u - v) + b)

so that what stands out of a band is kept and what lies between is dropped, as a Wiener filter does, in every bin for
the price of a band. The net hears no phases, and changes none.

Nothing is shared between frequencies, as it would be in a net for all voices: this one has one speaker to learn, whose
pitch and vowels have their places. So a frame is one token, not one a band, and a CPU hears twice as much a minute as
with the lightest band-split net (docs/log.md).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extractor import check_counts, precision, require, spectrum
from extractor.layers import checkpointed

BLOCK = 16    # bands whose bins are in one product
FLOOR = 1e-3  # of a band's magnitude, over that of white noise at the mixture's level: what is below is silence


@dataclass(frozen=True)
class FullBandArgs(spectrum.SpectralArgs):
    n_bands: int = 160         # K, at most F
    width: int = 192           # D
    hidden: int = 96           # H
    n_layers: int = 4
    checkpointing: bool = False  # recompute every layer in the backward pass: slower, less memory

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "n_bands", "width", "hidden", "n_layers")
        limits = f"give at least 2 and at most the {self.n_bins} bins of n_fft"
        require(self, "n_bands", 2 <= self.n_bands <= self.n_bins, limits)


PRESETS = {
    "light": FullBandArgs(),
    "base": FullBandArgs(n_fft=4096, hop=1024, n_bands=192, width=256, hidden=128, n_layers=6),
}


def band_edges(n_bins: int, n_bands: int) -> list[int]:
    """Bins where the bands begin, and where the last one ends: bands of one bin, then each wider than the last by the
    same factor; the change lies where that makes the first wide band one bin wide, too. -> [K + 1], ascending"""
    def step(single: int) -> float:
        return (n_bins / single) ** (1 / (n_bands - single))

    single = next((n for n in range(1, n_bands) if n * (step(n) - 1) >= 1), n_bands - 1)
    return [*range(single), *(round(single * step(single) ** i) for i in range(n_bands - single + 1))]


def band_means(n_bins: int, n_bands: int) -> Tensor:
    """Returns the matrix that takes the mean of every band's bins. -> [F, K]"""
    edges = torch.tensor(band_edges(n_bins, n_bands))
    band = torch.bucketize(torch.arange(n_bins), edges, right=True) - 1
    return nn.functional.one_hot(band, n_bands) / edges.diff()


def band_levels(magnitudes: Tensor, means: Tensor, alpha: float = 1.0) -> Tensor:
    """Returns `levels` of the bands' mean magnitudes to the power of alpha. [..., F] -> [..., K]"""
    with precision.full(magnitudes):
        return levels(magnitudes @ means, alpha)


def levels(magnitudes: Tensor, alpha: float = 1.0) -> Tensor:
    """Returns logarithms of magnitudes to the power of alpha; white noise of level 1 has about 0. [...] -> [...]"""
    return 0.5 / alpha * (magnitudes + FLOOR**alpha).log() + 0.5


# --- layers, a sequence first: the LSTM then reads it without a copy -------------------------------------------------

def changed(x: Tensor, change: Tensor | None) -> Tensor:
    """Scales and shifts. [L, B, D], [2, B, D]: the scale less 1, and what is added -> [L, B, D]"""
    return x if change is None else torch.addcmul(change[1], x, 1 + change[0])


class Layer(nn.Module):
    """Norm, what a speaker changes there, bidirectional LSTM, linear, residual. [L, B, D] -> [L, B, D]"""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, hidden, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, width)

    def forward(self, x: Tensor, change: Tensor | None = None) -> Tensor:
        return x + self.linear(precision.lstm(self.lstm, changed(self.norm(x), change)))


class FullBand(nn.Module):
    """[B, T] -> [B, T], any T >= 1. f(a x) = a f(x) for a > 0, zeros to zeros, and no item of a batch sees another."""

    muon_excluded = "enter", "mask", "gate"  # between spectra and vectors

    def __init__(self, args: FullBandArgs):
        super().__init__()
        self.args = args
        means = band_means(args.n_bins, args.n_bands)
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("members", means.sign(), persistent=False)
        edges, borders = band_edges(args.n_bins, args.n_bands), [*range(0, args.n_bands, BLOCK), args.n_bands]
        self.blocks = [(slice(a, b), slice(edges[a], edges[b])) for a, b in pairwise(borders)]  # bands, their bins
        self.enter = nn.Linear(args.n_bands, args.width)
        self.layers = nn.ModuleList(Layer(args.width, args.hidden) for _ in range(args.n_layers))
        self.hidden = nn.Sequential(nn.LayerNorm(args.width), nn.Linear(args.width, 2 * args.width), nn.GELU())
        self.mask = nn.Linear(2 * args.width, args.n_bins)
        self.gate = nn.Linear(2 * args.width, 2 * args.n_bands)
        with torch.no_grad():  # at first about half of everything
            self.mask.weight.mul_(0.3)
            self.mask.bias.fill_(0.5)
            self.gate.weight.mul_(0.1)
            self.gate.bias.zero_()

    def forward(self, mixture: Tensor) -> Tensor:
        return self.estimate(mixture)

    def places(self) -> list[nn.Module]:
        """The modules behind which a speaker changes something, P of them."""
        return [self.enter, *(layer.norm for layer in self.layers), self.hidden[0]]

    def estimate(self, mixture: Tensor, *changes: Tensor) -> Tensor:
        """Changes, where given, are those behind each of `places`, see `changed`. [B, T] -> [B, T]"""
        n_fft, hop = self.args.n_fft, self.args.hop
        level = spectrum.level(mixture)
        frames = spectrum.stft(mixture / level, n_fft, hop).mT  # [B, L, F], as it lies in memory
        estimate = frames * self.gains(frames.abs(), *changes)
        return spectrum.istft(estimate.mT, n_fft, hop, mixture.shape[-1]) * level

    def extract_channels(self, channels: Tensor, mixture: Tensor) -> Tensor:
        """Takes from all channels what it takes from their mixture: one gain for all, so that everything keeps its
        place. [C, T], [T] -> [C, T]"""
        n_fft, hop = self.args.n_fft, self.args.hop
        level = spectrum.level(mixture[None])
        gains = self.gains(spectrum.stft(mixture[None] / level, n_fft, hop).mT.abs())
        frames = spectrum.stft(channels / level, n_fft, hop).mT
        return spectrum.istft((frames * gains).mT, n_fft, hop, mixture.shape[-1]) * level

    def gains(self, magnitudes: Tensor, *changes: Tensor) -> Tensor:
        """Returns a gain for every bin, not bounded. Magnitudes, [B, L, F] -> [B, L, F]"""
        of_bands = band_levels(magnitudes, self.means)
        first, *inside, last = changes or [None] * (len(self.layers) + 2)
        x = changed(precision.at_least_fp32(self.enter(of_bands.transpose(0, 1))), first)
        for layer, change in zip(self.layers, inside, strict=True):
            x = checkpointed(layer, x, change, enabled=self.args.checkpointing)
        norm, linear, activation = self.hidden
        x = activation(linear(changed(norm(x), last))).transpose(0, 1)
        slope, offset = self.gate(x).chunk(2, dim=-1)
        slope, offset = (self.in_bins(of) for of in (slope, offset - slope * of_bands))
        return 2 * precision.at_least_fp32(self.mask(x)) * torch.addcmul(offset, slope, levels(magnitudes)).sigmoid()

    def in_bins(self, of_bands: Tensor) -> Tensor:
        """Gives every bin the value of its band, by products of a few bands each: one of all would be mostly zeros.
        [B, L, K] -> [B, L, F]"""
        some = (F.linear(of_bands[..., bands], self.members[bins, bands]) for bands, bins in self.blocks)
        return precision.at_least_fp32(torch.cat([*some], dim=-1))
