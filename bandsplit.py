"""A band-split network: BSRNN (Luo and Yu 2022, arXiv 2209.15174) with a choice of what reads the sequences.

B batch · T samples · F bins · L frames · K bands · W bins per band · D width · S a sequence's length (L or K)

The spectrum is cut into bands, narrow where a voice's harmonics lie, wide above; every band of every frame becomes a
vector of width D. Blocks read them along time, each band alone, then along the bands, each frame alone. Out of every
vector come the band's complex mask and what is added to the masked spectrum.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from extractor import check_counts, precision, require, rwkv7, sigma, spectrum
from extractor.layers import Attention, checkpointed

Mixer = Literal["attention", "lstm", "rwkv7"]
Zones = tuple[tuple[float, float], ...]

COARSE: Zones = ((1000, 125), (4000, 300), (8000, 800), (16000, 2000))              # 28 bands at 44.1 kHz
FINE: Zones = ((1000, 100), (4000, 250), (8000, 500), (16000, 1000), (20000, 2000))  # 40; nearly BSRNN's 41 for vocals
QUIET = 1e-8  # power of a band, over that of the mixture: below it a band counts as silent


@dataclass(frozen=True)
class BandSplitArgs(spectrum.SpectralArgs):
    bands: Zones = FINE        # (up to Hz, width of a band in Hz), ascending; one more band takes the rest
    width: int = 64            # D; attention, rwkv7: must divide by n_heads
    n_blocks: int = 4          # each a path along time and a path along the bands
    n_heads: int = 4           # of attention and rwkv7
    hidden: int = 64           # lstm: units per direction; attention, rwkv7: width of the feed-forward
    mixer: Mixer = "lstm"      # what reads the sequences
    sigma_reparam: bool = False  # attention: every matrix of the blocks is divided by its spectral norm
    checkpointing: bool = False  # recompute every path in the backward pass: slower, far less memory

    def __post_init__(self):
        super().__post_init__()
        check_counts(self, "width", "n_blocks", "n_heads", "hidden")
        require(self, "mixer", self.mixer in get_args(Mixer), f"give one of {', '.join(get_args(Mixer))}")
        if self.mixer == "attention":
            remedy = f"attention turns pairs; give an even multiple of n_heads = {self.n_heads}"
            require(self, "width", self.width % (2 * self.n_heads) == 0, remedy)
        if self.mixer == "rwkv7":
            rwkv7.check_heads(self, "width")
        usable = self.mixer == "attention" or not self.sigma_reparam
        require(self, "sigma_reparam", usable, f"it is for attention, not {self.mixer}; set it to False")
        zones(self)


def zones(args: BandSplitArgs) -> list[tuple[int, int]]:
    """Returns for every zone the number and the width, in bins, of its bands; the rest is the last zone. -> [(n, W)].
    Bands of a zone are equally wide, so that they go through the net as one batch."""
    found, start, bin_hz = [], 0, args.sample_rate / args.n_fft
    for up_to_hz, width_hz in args.bands:
        half = f"{up_to_hz} Hz is not below half the sample rate, {args.sample_rate / 2}"
        require(args, "bands", up_to_hz < args.sample_rate / 2, f"{half}; leave it out: the rest is a band of its own")
        width = round(width_hz / bin_hz) if 0 < width_hz < math.inf else 0
        n = round((up_to_hz / bin_hz - start) / width) if width > 0 else 0
        none = f"no band of {width_hz} Hz fits between {start * bin_hz:.0f} and {up_to_hz} Hz"
        bins = f"a bin is {bin_hz:.1f} Hz wide"
        require(args, "bands", n >= 1, f"{none}, {bins}; give a wider band, a higher limit or a larger n_fft")
        found.append((n, width))
        start += n * width
        none = f"they end at bin {start}, and no bin of {args.n_bins} is left for the last one"
        require(args, "bands", start < args.n_bins, f"{none}; lower {up_to_hz} Hz")
    return [*found, (1, args.n_bins - start)]


PRESETS = {
    "tiny": BandSplitArgs(bands=COARSE, width=32, hidden=32, n_blocks=2, n_heads=2),  # for a CPU
    "tiny_attention": BandSplitArgs(bands=COARSE, width=32, hidden=64, n_blocks=2, n_heads=2, mixer="attention"),
    "tiny_rwkv7": BandSplitArgs(bands=COARSE, width=32, hidden=64, n_blocks=2, n_heads=2, mixer="rwkv7"),
    "small": BandSplitArgs(),
    "base": BandSplitArgs(width=128, hidden=256, n_blocks=6, n_heads=8, mixer="attention"),
}


# --- paths: [S, N, D], first -> [S, N, D], first ---------------------------------------------------------------------
# A sequence comes first, so that the LSTM reads it without a copy. `first` is what RWKV-7 hands from the first path of
# a kind to the later ones.

class LSTMPath(nn.Module):
    """BSRNN's: norm, bidirectional LSTM, linear, residual."""

    def __init__(self, args: BandSplitArgs, block: int):
        super().__init__()
        self.norm = nn.RMSNorm(args.width, eps=1e-6)
        self.lstm = nn.LSTM(args.width, args.hidden, bidirectional=True)
        self.linear = nn.Linear(2 * args.hidden, args.width)

    def forward(self, x: Tensor, first: None) -> tuple[Tensor, None]:
        return x + self.linear(precision.lstm(self.lstm, self.norm(x))), first


class ConvSwiGLU(nn.Module):
    """The feed-forward of TF-Locoformer (Saijo et al. 2024, arXiv 2408.03440): a convolution along the first axis, one
    half of it the other's gate, a projection. [S, N, D] -> [S, N, D]"""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.conv, self.linear = nn.Conv1d(dim, 2 * hidden, 3, padding=1), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(self.conv(rearrange(x, "s n d -> n d s")), "n h s -> s n h")
        value, gate = x.chunk(2, dim=-1)
        return self.linear(value * F.silu(gate))


class AttentionPath(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, args: BandSplitArgs, block: int):
        super().__init__()
        self.norm_attention, self.norm_feedforward = (nn.RMSNorm(args.width, eps=1e-6) for _ in range(2))
        self.attention = Attention(args.width, args.n_heads, bias=False, rotary=True)
        self.feedforward = ConvSwiGLU(args.width, args.hidden)

    def forward(self, x: Tensor, first: None) -> tuple[Tensor, None]:
        x = x + self.attention(self.norm_attention(x))
        return x + self.feedforward(self.norm_feedforward(x)), first


class RWKV7Path(nn.Module):
    """RWKV-7's time mix and channel mix, half of the heads in either direction."""

    def __init__(self, args: BandSplitArgs, block: int):
        super().__init__()
        self.layer = rwkv7.Layer(args.width, args.n_heads, block, args.n_blocks, args.hidden)

    def forward(self, x: Tensor, first: Tensor | None) -> tuple[Tensor, Tensor]:
        x, first = self.layer(rearrange(x, "s n d -> n s d"), first)
        return rearrange(x, "n s d -> s n d"), first


PATHS = {"attention": AttentionPath, "lstm": LSTMPath, "rwkv7": RWKV7Path}


# --- spectrum <-> bands ----------------------------------------------------------------------------------------------

class BandLinear(nn.Module):
    """Every band's own linear map; one product is faster than K small ones. [K, N, in] -> [K, N, out]"""

    def __init__(self, n_bands: int, dim_in: int, dim_out: int):
        super().__init__()
        bound = dim_in**-0.5  # nn.Linear's
        self.weight = nn.Parameter(torch.empty(n_bands, dim_in, dim_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_bands, 1, dim_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class Encoder(nn.Module):
    """complex [B, F, L] -> [K, L*B, D]. A band of a frame is taken to level 1, since treble lies far below bass; the
    logarithm of its level goes beside it."""

    def __init__(self, args: BandSplitArgs):
        super().__init__()
        self.zones = zones(args)
        self.linears = nn.ModuleList(BandLinear(n, 2 * w + 1, args.width) for n, w in self.zones)

    def forward(self, mixture: Tensor) -> Tensor:
        parts = torch.view_as_real(mixture).split([n * w for n, w in self.zones], dim=1)
        out = []
        for part, linear, (n, _) in zip(parts, self.linears, self.zones, strict=True):
            x = rearrange(part, "b (k w) l c -> k (l b) (w c)", k=n)
            power = x.square().mean(-1, keepdim=True) + QUIET
            out.append(linear(torch.cat([x * power.rsqrt(), 0.1 * power.log()], dim=-1)))
        return precision.at_least_fp32(torch.cat(out))


class Decoder(nn.Module):
    """[K, L*B, D] -> the mask and the residual, complex [B, F, L]; about 1/2 and 0 before training"""

    def __init__(self, args: BandSplitArgs):
        super().__init__()
        self.zones = zones(args)
        self.norm = nn.RMSNorm(args.width, eps=1e-6)
        self.hidden = BandLinear(sum(n for n, _ in self.zones), args.width, 4 * args.width)
        self.linears = nn.ModuleList(BandLinear(n, 2 * args.width, 4 * w) for n, w in self.zones)
        for linear, (_, w) in zip(self.linears, self.zones, strict=True):
            nn.init.normal_(linear.weight, std=1e-3)
            linear.bias.data[..., 0 : 2 * w : 2] = 0.5  # the real parts of the mask

    def forward(self, x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        x = F.glu(self.hidden(self.norm(x)), dim=-1)
        out = []
        for part, linear, (_, w) in zip(x.split([n for n, _ in self.zones]), self.linears, self.zones, strict=True):
            out.append(rearrange(linear(part), "k (l b) (two w c) -> two b l (k w) c", b=batch, two=2, w=w))
        mask, residual = torch.view_as_complex(precision.at_least_fp32(torch.cat(out, dim=3))).transpose(2, 3)
        return mask, residual


class BandSplit(nn.Module):
    """[B, T] -> [B, T], any T >= 1. f(a x) = a f(x) for a > 0, zeros to zeros, and no item of a batch sees another."""

    muon_excluded = "encoder", "decoder"  # between spectra and vectors

    def __init__(self, args: BandSplitArgs):
        super().__init__()
        self.args = args
        self.encoder, self.decoder = Encoder(args), Decoder(args)
        self.paths = nn.ModuleList(PATHS[args.mixer](args, i // 2) for i in range(2 * args.n_blocks))
        if args.sigma_reparam:
            sigma.apply(self, groups={"in_proj": 3})  # the queries, keys and values

    def forward(self, mixture: Tensor) -> Tensor:
        args, level = self.args, spectrum.level(mixture)
        x = spectrum.stft(mixture / level, args.n_fft, args.hop)
        mask, residual = self.masks(x)
        estimate = spectrum.istft(x * mask + residual, args.n_fft, args.hop, mixture.shape[-1])
        return estimate * level * mixture.any(-1, keepdim=True)

    def masks(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mask and the residual of a spectrum. complex [B, F, L] -> 2 x complex [B, F, L]"""
        batch, first = len(mixture), [None, None]
        x = self.encoder(mixture)
        for i, path in enumerate(self.paths):  # in turn along time, each band alone, and along bands, each frame alone
            x = rearrange(x, "here (there b) d -> there (here b) d", b=batch)
            x, first[i % 2] = checkpointed(path, x, first[i % 2], enabled=self.args.checkpointing)
        return self.decoder(x, batch)
