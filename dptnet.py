"""DPTNet, the dual-path transformer network of Chen, Mao and Liu (2020), arXiv 2007.13975, as its authors built it.

B batch · T samples · W encoder kernel · E encoder filters · N bottleneck width · H LSTM width per direction
L encoder frames · K frames per chunk · P = K/2 hop between chunks · S chunks · D blocks, each with both paths

A learned filterbank turns the mixture into frames; the frames are cut into half-overlapping chunks; attention and a
bidirectional LSTM run inside each chunk, then across chunks, D times over; a mask on the frames comes out, and a second
filterbank turns the masked frames back into samples.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from extractor import UserError, check_counts, dualpath, precision, recompute, sigma
from extractor.attention import attend


@dataclass(frozen=True)
class DPTNetArgs:
    sample_rate: int = 44100   # Hz; travels with the weights
    kernel: int = 32           # W, samples, even; the encoder's stride is W/2
    n_filters: int = 256       # E
    bottleneck: int = 64       # N; must divide by n_heads
    hidden: int = 64           # H
    n_blocks: int = 3          # D
    n_heads: int = 4
    chunk_frames: int = 150    # K, even; sqrt(2 L) balances the two paths
    n_src: int = 1             # estimates; 1 is the target alone, more only to compare with the literature
    fourier: bool = False      # start the two filterbanks from a windowed Fourier frame instead of noise; needs E = 2W
    checkpointing: bool = False  # recompute every layer in the backward pass: slower, far less memory
    sigma_reparam: bool = False  # matrices but the filterbanks' and LSTMs' as gamma / sigma(W) * W (extractor/sigma.py)

    def __post_init__(self):
        dualpath.check(self)
        check_counts(self, "hidden")
        if self.bottleneck % self.n_heads:
            raise UserError(f"DPTNetArgs.bottleneck = {self.bottleneck}: give a multiple of n_heads = {self.n_heads}")

    @property
    def stride(self) -> int:
        return self.kernel // 2


PRESETS = {
    "coarse": DPTNetArgs(kernel=256, n_filters=512, hidden=128, chunk_frames=52, fourier=True),  # for a CPU
    "tiny": DPTNetArgs(kernel=64, n_filters=128, bottleneck=32, hidden=32, n_blocks=2, chunk_frames=64),
    "small": DPTNetArgs(),
    "base": DPTNetArgs(hidden=128, n_blocks=6, chunk_frames=166),
    "base_fine": DPTNetArgs(kernel=16, hidden=128, n_blocks=6, chunk_frames=234),
    "paper": DPTNetArgs(kernel=2, hidden=128, n_blocks=6, chunk_frames=250),
}


# ---------------------------------------------------------------------------------------------------------------------
# layers: a sequence comes first, so that the LSTM, which costs most, reads it without a copy


class Attention(nn.Module):
    """Multi-head self-attention along the first axis. [L, B, N] -> [L, B, N]"""

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.in_proj, self.out_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = rearrange(self.in_proj(x), "l b (three h d) -> three b h l d", three=3, h=self.n_heads)
        q, k, v = qkv.contiguous()  # strided rows miss the CPU's caches: up to 1.8 times as slow
        return self.out_proj(rearrange(attend(q, k, v), "b h l d -> l b (h d)"))


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


class DPTNet(dualpath.DualPath):
    """[B, T] -> [B, T], or [B, n_src, T] where n_src > 1; any T >= 1.

    f(a x) = a f(x) for a > 0, zeros to zeros, and no item of a batch sees another.
    """

    def __init__(self, args: DPTNetArgs):
        layers = (Layer(args.bottleneck, args.hidden, args.n_heads) for _ in range(2 * args.n_blocks))
        super().__init__(args, layers)
        if args.sigma_reparam:
            # last: gamma starts from the weights that stand here. The filterbanks stay plain, as their level is the
            # signal's, and the LSTMs, as gates bound what they put out and cuDNN wants their weights in one piece
            sigma.apply(self, groups={"in_proj": 3}, leave=("encoder", "decoder"))  # queries, keys and values apart

    def paths(self, chunks: Tensor) -> Tensor:
        """[B, S, K, N] -> [B, S, K, N]"""
        x, batch = rearrange(chunks, "b s k n -> k (b s) n"), chunks.shape[0]
        for layer in self.layers:  # in turn inside each chunk, along k, and across chunks, along s
            x = recompute.run(layer, x, anew=self.args.checkpointing)
            x = rearrange(x, "here (b there) n -> there (b here) n", b=batch)
        return rearrange(x, "k (b s) n -> b s k n", b=batch)
