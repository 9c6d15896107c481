"""DPTNet, the dual-path transformer network of Chen, Mao and Liu (2020), arXiv 2007.13975, as its authors built it.

B batch · T samples · W encoder kernel · E encoder filters · N bottleneck width · H LSTM width per direction
L encoder frames · K frames per chunk · P = K/2 hop between chunks · S chunks · D blocks, each with both paths

A learned filterbank turns the mixture into frames; the frames are cut into half-overlapping chunks; attention and a
bidirectional LSTM run inside each chunk, then across chunks, D times over; a mask on the frames comes out, and a second
filterbank turns the masked frames back into samples.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from extractor import check_counts, precision, require, sigma, spectrum
from extractor.layers import Attention, checkpointed


@dataclass(frozen=True)
class DualPathArgs:
    """The fields that every dual-path network has."""

    sample_rate: int = 44100   # Hz; travels with the weights
    kernel: int = 32           # W, samples, even; the encoder's stride is W/2
    n_filters: int = 256       # E
    bottleneck: int = 64       # N; must divide by n_heads
    n_blocks: int = 3          # D; each a layer inside the chunks and one across
    n_heads: int = 4
    chunk_frames: int = 150    # K, even; sqrt(2 L) balances the two paths
    fourier: bool = False      # start the two filterbanks from a windowed Fourier frame instead of noise; needs E = 2W
    checkpointing: bool = False  # recompute every layer in the backward pass: slower, far less memory

    def __post_init__(self):
        for name in ("kernel", "chunk_frames"):
            value = getattr(self, name)
            require(self, name, value >= 2 and value % 2 == 0, "give an even number of at least 2")
        check_counts(self, "sample_rate", "n_filters", "bottleneck", "n_blocks", "n_heads")
        fits = not self.fourier or self.n_filters == 2 * self.kernel
        require(self, "fourier", fits, f"it needs n_filters = 2 * kernel = {2 * self.kernel}, not {self.n_filters}")
        require(self, "bottleneck", self.bottleneck % self.n_heads == 0, f"give a multiple of n_heads = {self.n_heads}")

    @property
    def stride(self) -> int:
        return self.kernel // 2


@dataclass(frozen=True)
class DPTNetArgs(DualPathArgs):
    hidden: int = 64           # H
    sigma_reparam: bool = False  # matrices but the filterbanks' and LSTMs' as gamma / sigma(W) * W (extractor/sigma.py)

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "hidden")


PRESETS = {
    "coarse": DPTNetArgs(kernel=256, n_filters=512, hidden=128, chunk_frames=52, fourier=True),  # for a CPU
    "tiny": DPTNetArgs(kernel=64, n_filters=128, bottleneck=32, hidden=32, n_blocks=2, chunk_frames=64),
    "small": DPTNetArgs(),
    "base": DPTNetArgs(hidden=128, n_blocks=6, chunk_frames=166),
    "base_fine": DPTNetArgs(kernel=16, hidden=128, n_blocks=6, chunk_frames=234),
    "paper": DPTNetArgs(kernel=2, hidden=128, n_blocks=6, chunk_frames=250),
}


# --- frames <-> chunks -----------------------------------------------------------------------------------------------

def segment(frames: Tensor, chunk_frames: int) -> Tensor:
    """Cuts frames into half-overlapping chunks; every frame lies in exactly two. [B, L, N] -> [B, S, K, N].
    Where the frames fill the chunks as they are, the authors add two chunks of nothing but padding; this does not."""
    hop = chunk_frames // 2
    rest = -(hop + frames.shape[1]) % chunk_frames
    halves = rearrange(F.pad(frames, (0, 0, hop, rest + hop)), "b (s p) n -> b s p n", p=hop)
    return torch.cat([halves[:, :-1], halves[:, 1:]], dim=2)


def overlap_add(chunks: Tensor, n_frames: int) -> Tensor:
    """Adds up the chunks: returns twice the frames that `segment` was given. [B, S, K, N] -> [B, L, N]"""
    first, second = chunks.chunk(2, dim=2)  # the second half of chunk s lies over the first half of chunk s+1
    return rearrange(first[:, 1:] + second[:, :-1], "b s p n -> b (s p) n")[:, :n_frames]


# --- frames <-> samples ----------------------------------------------------------------------------------------------

class GlobalNorm(nn.Module):
    """gLN: one mean and one variance over all frames and features of an item. [B, L, E] -> [B, L, E]"""

    def __init__(self, dim: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[1:], eps=1e-8) * self.weight + self.bias


def fourier_frame(kernel: int) -> Tensor:
    """A tight frame of rectified sinusoids: relu(A x) keeps all of x, and A^T relu(A x) returns it. -> [2W, W]

    Its rows are the real Fourier basis of W samples under a square-root Hann window, each row in both signs, so that
    the encoder's ReLU loses nothing; at a stride of W/2 the squared windows add up to one.
    """
    n, bins = torch.arange(kernel), torch.arange(kernel // 2 + 1)[:, None]
    phase = 2 * math.pi * bins * n / kernel
    basis = torch.cat([phase.cos(), phase[1:-1].sin()]) * math.sqrt(2 / kernel)  # orthonormal: [W, W]
    basis[[0, kernel // 2]] /= math.sqrt(2)
    basis = basis * torch.hann_window(kernel).sqrt()
    return torch.cat([basis, -basis])


# --- layers, a sequence first: the LSTM, which costs most, then reads it without a copy ------------------------------

class Layer(nn.Module):
    """The improved transformer layer: attention, then an LSTM in place of the first feed-forward projection, each
    followed by a residual and a norm (sec. 2.2 of the paper). [L, B, N] -> [L, B, N]"""

    def __init__(self, dim: int, hidden: int, n_heads: int):
        super().__init__()
        self.attention = Attention(dim, n_heads)
        self.norm_attention = nn.LayerNorm(dim)
        self.lstm = nn.LSTM(dim, hidden, bidirectional=True)
        self.linear = nn.Linear(2 * hidden, dim)
        self.norm_lstm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_attention(x + self.attention(x))
        return self.norm_lstm(x + self.linear(F.relu(precision.lstm(self.lstm, x))))


# --- the net ---------------------------------------------------------------------------------------------------------

class DualPath(nn.Module):
    """Filterbanks around a mask on frames that are cut into chunks. [B, T] -> [B, T]; any T >= 1.

    A family adds `paths`, [B, S, K, N] -> [B, S, K, N]: the layers, in turn inside each chunk and across chunks.
    f(a x) = a f(x) for a > 0, zeros to zeros, and no item of a batch sees another.
    """

    muon_excluded = "encoder", "bottleneck", "mask", "decoder"  # between samples and vectors

    def __init__(self, args, layers):
        """`layers` yields 2 * n_blocks, each made when its turn comes: their weights are random numbers."""
        super().__init__()
        self.args = args
        width, filters = args.bottleneck, args.n_filters
        self.encoder = nn.Linear(args.kernel, filters, bias=False)
        self.norm = GlobalNorm(filters)
        self.bottleneck = nn.Linear(filters, width, bias=False)
        self.layers = nn.ModuleList(layers)
        self.head = nn.Sequential(nn.PReLU(), nn.Linear(width, width))
        self.value, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.mask = nn.Linear(width, filters, bias=False)
        self.decoder = nn.Linear(filters, args.kernel, bias=False)
        if args.fourier:
            self.encoder.weight.data.copy_(fourier_frame(args.kernel))
            self.decoder.weight.data.copy_(fourier_frame(args.kernel).T)

    def forward(self, mixture: Tensor) -> Tensor:
        # the norm's epsilon is no part of the signal: at a fixed level no recording is too quiet for it
        level = spectrum.level(mixture)
        frames = self.encode(mixture / level)
        estimate = self.decode(frames * self.masks(frames))
        return estimate[:, self.args.stride :][:, : mixture.shape[-1]] * level

    def encode(self, mixture: Tensor) -> Tensor:
        """Returns frames of W samples at a stride of W/2; each sample is in two. [B, T] -> [B, L, E], not negative"""
        stride = self.args.stride
        mixture = F.pad(mixture, (stride, stride + -mixture.shape[-1] % stride))
        with precision.full(mixture):  # the estimate is made of these frames: what is rounded here is heard
            return F.relu(self.encoder(mixture.unfold(-1, self.args.kernel, stride)))

    def masks(self, frames: Tensor) -> Tensor:
        """Returns a factor for every value of the frames, not negative, not bounded. [B, L, E] -> [B, L, E]"""
        chunks = segment(precision.at_least_fp32(self.bottleneck(self.norm(frames))), self.args.chunk_frames)
        x = overlap_add(self.head(self.paths(chunks)), frames.shape[1])
        x = torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))
        return F.relu(self.mask(x))

    def decode(self, frames: Tensor) -> Tensor:
        """Overlap-adds frames to samples. [B, L, E] -> [B, (L + 1) W/2]"""
        with precision.full(frames):
            first, second = self.decoder(frames).chunk(2, dim=-1)
        halves = F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))
        return rearrange(halves, "b l w -> b (l w)")


class DPTNet(DualPath):
    """The network of the paper, with what `DualPath` promises. [B, T] -> [B, T]"""

    def __init__(self, args: DPTNetArgs):
        layers = (Layer(args.bottleneck, args.hidden, args.n_heads) for _ in range(2 * args.n_blocks))
        super().__init__(args, layers)
        if args.sigma_reparam:
            # last: gamma starts from the weights that stand here. The filterbanks stay plain, as their level is the
            # signal's, and the LSTMs, as gates bound what they put out and cuDNN wants their weights in one piece
            sigma.apply(self, groups={"in_proj": 3}, leave=("encoder", "decoder"))  # queries, keys and values apart

    def paths(self, chunks: Tensor) -> Tensor:
        """Runs the layers, in turn inside each chunk and across chunks. [B, S, K, N] -> [B, S, K, N]"""
        x, batch = rearrange(chunks, "b s k n -> k (b s) n"), chunks.shape[0]
        for layer in self.layers:  # in turn inside each chunk, along k, and across chunks, along s
            x = checkpointed(layer, x, enabled=self.args.checkpointing)
            x = rearrange(x, "here (b there) n -> there (b here) n", b=batch)
        return rearrange(x, "k (b s) n -> b s k n", b=batch)
