"""What dual-path networks share: filterbanks around a mask, and frames cut into chunks, in two orders of time.

B batch · T samples · W encoder kernel · E encoder filters · N bottleneck width
L encoder frames · K frames per chunk · P = K/2 hop between chunks · S chunks · D blocks, each with both paths

A learned filterbank turns the mixture into frames; the frames are cut into half-overlapping chunks; layers run inside
each chunk, then across chunks, D times over; a mask on the frames comes out, and a second filterbank turns the masked
frames back into samples. Which layers, is the family's affair.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from extractor import UserError, check_counts, precision, spectrum


def check(args):
    """Raises UserError where the args that every dual-path network has cannot work."""
    name = type(args).__name__
    for field in ("kernel", "chunk_frames"):
        if getattr(args, field) < 2 or getattr(args, field) % 2:
            raise UserError(f"{name}.{field} = {getattr(args, field)}: give an even number of at least 2")
    check_counts(args, "sample_rate", "n_filters", "bottleneck", "n_blocks", "n_heads", "n_src")
    if args.fourier and args.n_filters != 2 * args.kernel:
        raise UserError(f"{name}.fourier needs n_filters = 2 * kernel = {2 * args.kernel}, not {args.n_filters}")


# ---------------------------------------------------------------------------------------------------------------------
# frames <-> chunks


def segment(frames: Tensor, chunk_frames: int) -> Tensor:
    """Cut frames into half-overlapping chunks; every frame lies in exactly two. [B, L, N] -> [B, S, K, N]

    Where the frames fill the chunks as they are, the authors add two chunks of nothing but padding; this does not.
    """
    hop = chunk_frames // 2
    rest = -(hop + frames.shape[1]) % chunk_frames
    halves = rearrange(F.pad(frames, (0, 0, hop, rest + hop)), "b (s p) n -> b s p n", p=hop)
    return torch.cat([halves[:, :-1], halves[:, 1:]], dim=2)


def overlap_add(chunks: Tensor, n_frames: int) -> Tensor:
    """Sum what the chunks say of each frame: twice the frames, if they are `segment`'s. [B, S, K, N] -> [B, L, N]"""
    first, second = chunks.chunk(2, dim=2)  # the second half of chunk s lies over the first half of chunk s+1
    return rearrange(first[:, 1:] + second[:, :-1], "b s p n -> b (s p) n")[:, :n_frames]


# ---------------------------------------------------------------------------------------------------------------------
# frames <-> samples


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


class DualPath(nn.Module):
    """[B, T] -> [B, T], or [B, n_src, T] where n_src > 1; any T >= 1. A family adds `paths`, which runs the layers.

    f(a x) = a f(x) for a > 0, zeros to zeros, and no item of a batch sees another.
    """

    ends = "encoder", "bottleneck", "mask", "decoder"  # between samples and vectors: left to AdamW by Muon (train.py)

    def __init__(self, args, layers):
        """`layers`: an iterable of 2 * n_blocks, drawn where the layers' turn is: their weights are random numbers"""
        super().__init__()
        self.args = args
        width, filters = args.bottleneck, args.n_filters
        self.encoder = nn.Linear(args.kernel, filters, bias=False)
        self.norm = GlobalNorm(filters)
        self.bottleneck = nn.Linear(filters, width, bias=False)
        self.layers = nn.ModuleList(layers)
        self.head = nn.Sequential(nn.PReLU(), nn.Linear(width, args.n_src * width))
        self.value, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.mask = nn.Linear(width, filters, bias=False)
        self.decoder = nn.Linear(filters, args.kernel, bias=False)
        if args.fourier:
            self.encoder.weight.data.copy_(fourier_frame(args.kernel))
            self.decoder.weight.data.copy_(fourier_frame(args.kernel).T)

    def forward(self, mixture: Tensor) -> Tensor:
        n_samples = mixture.shape[-1]
        # the norm's epsilon is no part of the signal: at a fixed level no recording is too quiet for it
        level = spectrum.level(mixture)
        frames = self.encode(mixture / level)
        estimate = self.decode(frames[:, None] * self.masks(frames))
        estimate = estimate[..., self.args.stride :][..., :n_samples] * level[:, None]
        return estimate.squeeze(1)

    def encode(self, mixture: Tensor) -> Tensor:
        """Frames of W samples at a stride of W/2; every sample lies in two. [B, T] -> [B, L, E], not negative"""
        stride = self.args.stride
        mixture = F.pad(mixture, (stride, stride + -mixture.shape[-1] % stride))
        with precision.full(mixture):  # the estimate is made of these frames: what is rounded here is heard
            return F.relu(self.encoder(mixture.unfold(-1, self.args.kernel, stride)))

    def masks(self, frames: Tensor) -> Tensor:
        """[B, L, E] -> [B, n_src, L, E], not negative, not bounded"""
        n_frames, n_src = frames.shape[1], self.args.n_src
        chunks = segment(precision.at_least_fp32(self.bottleneck(self.norm(frames))), self.args.chunk_frames)
        x = self.head(self.paths(chunks))
        x = overlap_add(rearrange(x, "b s k (c n) -> (b c) s k n", c=n_src), n_frames)
        x = torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))
        return rearrange(F.relu(self.mask(x)), "(b c) l e -> b c l e", c=n_src)

    def paths(self, chunks: Tensor) -> Tensor:
        """The layers, in turn inside each chunk, along k, and across chunks, along s. [B, S, K, N] -> [B, S, K, N]"""
        raise NotImplementedError

    def decode(self, frames: Tensor) -> Tensor:
        """[B, n_src, L, E] -> [B, n_src, (L + 1) W/2]"""
        with precision.full(frames):
            first, second = self.decoder(frames).chunk(2, dim=-1)
        halves = F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))
        return rearrange(halves, "b c l w -> b c (l w)")
