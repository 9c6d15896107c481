"""A flow that refines, in a few steps, what a frozen predictive net has estimated.

B batch · T samples · F bins · L frames · K bands · D width · H LSTM units per direction · N steps
x the target, y the mixture, s the frozen net's estimate: spectra, [B, L, F], their magnitudes to the power of alpha
z noise · R the reach · t time, from 1, where the estimate is s and noise, to 0, where it is the target

A predictive net that cannot tell what was there answers with the mean of what may have been, which is weak and blurred.
The flow draws one of the things that may have been. It is flow matching (Lipman et al. 2023, arXiv 2210.02747) whose
net predicts the target rather than the velocity, started from a predictive estimate as StoRM is (Lemercier et al. 2023,
arXiv 2212.11851). With the condition c = (y, s), everything below being given c:

    x_t = (1 - t) x + t (s + sigma R z)          the path
    D(x_t, c, t) = E[x | x_t, c]                 what the denoiser learns, by its squared error
    dx_t/dt = (x_t - D) / t                      the way back, from t = 1 to 0, in N straight steps

The reach R says, bin by bin, how far the flow may go from s: noise has its level and D stays within `reach` times R of
s. R is the level of s around the bin, in quiet spots as in loud ones, and falls to 0 where s as a whole is more than 30
dB under the mixture. So what the frozen net silenced stays silent, whatever the denoiser says; where it left more than
that of an absent target, the flow must have learned better. Since R follows from c alone, the noise given c is Gaussian
as ever, and all that holds of flows holds of this one.

The noise is a function of the absolute position in the recording: pieces of it see the same where they overlap.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

import bandsplit
import fullband
from extractor import UserError, check_counts, precision, require, spectrum
from losses import LossArgs, log_mse

PREDICTORS = {fullband.FullBandArgs: fullband.FullBand, bandsplit.BandSplitArgs: bandsplit.BandSplit}
TINY = 1e-12   # against 0/0
AROUND = 5, 9  # frames and bins whose mean is a local level: about the distance of two harmonics
ABSENT_DB, PRESENT_DB = -30.0, -20.0  # of the estimate over the mixture, in half a second: where the reach is 0, and 1
PRESENCE_S = 0.5
BLOCK = 2**16  # samples of noise with a seed of their own
N_TIMES = 16   # cosines that tell the denoiser the time


@dataclass(frozen=True)
class FlowArgs:
    # of the frozen net; train.py takes them from init_from
    predictor: fullband.FullBandArgs | bandsplit.BandSplitArgs = fullband.PRESETS["light"]
    n_bands: int = 160   # K, at most F
    n_fine: int = 96     # lowest bins whose real and imaginary parts the denoiser sees, at most F
    width: int = 256     # D
    hidden: int = 128    # H
    n_layers: int = 2
    alpha: float = 0.5   # exponent of magnitudes, over 0 and at most 1: the lower, the more quiet bins count
    sigma: float = 0.5   # noise at t = 1, over the reach; more than 0
    reach: float = 2.0   # how far the flow may go from the frozen net's estimate, over R; more than 0
    steps: int = 1       # N; 1 is another predictive net, and no number was better so far (docs/log.md)

    def __post_init__(self):
        if isinstance(self.predictor, dict):  # as it comes out of a checkpoint; by now there may be more fields
            known = (args for args in PREDICTORS if self.predictor.keys() <= {field.name for field in fields(args)})
            object.__setattr__(self, "predictor", next(known, dict)(**self.predictor))
        if type(self.predictor) not in PREDICTORS:
            known = ", ".join(args.__name__ for args in PREDICTORS)
            raise UserError(f"FlowArgs.predictor is a {type(self.predictor).__name__}: give one of {known}")
        check_counts(self, "n_bands", "n_fine", "width", "hidden", "n_layers", "steps")
        n_bins = self.predictor.n_bins
        for name, least in (("n_bands", 2), ("n_fine", 1)):
            limits = f"give at least {least} and at most the {n_bins} bins of predictor.n_fft"
            require(self, name, least <= getattr(self, name) <= n_bins, limits)
        require(self, "alpha", 0 < self.alpha <= 1, "give more than 0 and at most 1")
        for name in ("sigma", "reach"):
            require(self, name, 0 < getattr(self, name) < math.inf, "give a finite number over 0")

    @property
    def sample_rate(self) -> int:
        return self.predictor.sample_rate


PRESETS = {
    "light": FlowArgs(),
    "base": FlowArgs(fullband.PRESETS["base"], n_bands=192, n_fine=192),
}


# --- the flow: this much holds for any denoiser ----------------------------------------------------------------------

def sample(denoise: Callable[[Tensor, float], Tensor], x: Tensor, steps: int) -> Tensor:
    """Follows the ODE from x at t = 1 to t = 0, in Euler steps of equal length. denoise(x_t, t) -> E[x | x_t].
    One step is the mean of all that x may be. The last step returns what the denoiser says."""
    for i in range(steps, 0, -1):
        estimate = denoise(x, i / steps)
        x = estimate + (i - 1) / i * (x - estimate)
    return x


def path(x: Tensor, start: Tensor, t: Tensor) -> Tensor:
    """Returns (1 - t) x + t start. [B, L, F], [B, L, F], [B] -> [B, L, F]"""
    t = rearrange(t, "b -> b 1 1")
    return (1 - t) * x + t * start


def regression(t: Tensor, sigma: float) -> Tensor:
    """What x_t - s tells of x - s where that is Gaussian and of level R: the factor of the mean of x - s given x_t.
    0 at t = 1, where x_t is but noise, and 1 at t = 0, where it is x. [B] -> [B, 1, 1]"""
    t = rearrange(t, "b -> b 1 1")
    return (1 - t) / ((1 - t) ** 2 + (t * sigma) ** 2)


def compress(x: Tensor, alpha: float) -> Tensor:
    """Raises magnitudes to the power of alpha and keeps the phases. complex -> complex"""
    return x * (x.abs().square() + TINY).pow((alpha - 1) / 2)


def expand(x: Tensor, alpha: float) -> Tensor:
    """Inverts `compress`."""
    return compress(x, 1 / alpha)


def within(x: Tensor, radius: Tensor) -> Tensor:
    """Limits magnitudes to a radius and keeps the phases. complex, real -> complex"""
    return x * (radius / (x.abs() + TINY)).clamp(max=1)


def noise(start: int, n_samples: int) -> Tensor:
    """White noise of level 1 that is always the same, from its sample `start` on. -> [n_samples].
    In samples rather than in bins, so that no piece of a recording need start where a frame does."""
    blocks = range(start // BLOCK, (start + n_samples - 1) // BLOCK + 1)
    drawn = torch.cat([torch.randn(BLOCK, generator=torch.Generator().manual_seed(i)) for i in blocks])
    return drawn[start - blocks[0] * BLOCK :][:n_samples]


# --- what is known beforehand ----------------------------------------------------------------------------------------

class Condition(NamedTuple):
    """All [B, L, F], the first two complex and compressed."""
    mixture: Tensor   # y
    estimate: Tensor  # s, the frozen net's
    reach: Tensor     # R


def local_level(power: Tensor) -> Tensor:
    """Returns the mean power around every bin. [B, L, F] -> [B, L, F]"""
    frames, bins = AROUND
    power = F.avg_pool2d(power[:, None], (frames, 1), 1, (frames // 2, 0), count_include_pad=False)
    return F.avg_pool2d(power, (1, bins), 1, (0, bins // 2), count_include_pad=False)[:, 0]


def presence(estimate: Tensor, mixture: Tensor, n_frames: int) -> Tensor:
    """0 where the estimate is ABSENT_DB under the mixture or lower, 1 from PRESENT_DB on, in the mean of an odd number
    of frames. Powers, [B, L, F], [B, L, F] -> [B, L, 1]"""
    powers = torch.stack([estimate.mean(-1), mixture.mean(-1)], dim=1)
    ours, all_ = F.avg_pool1d(powers, n_frames, 1, n_frames // 2, count_include_pad=False).unbind(1)
    db = 10 * torch.log10((ours + TINY) / (all_ + TINY / 10**(ABSENT_DB / 10)))  # of silence, ABSENT_DB
    return ((db - ABSENT_DB) / (PRESENT_DB - ABSENT_DB)).clamp(0, 1)[..., None]


# --- nets ------------------------------------------------------------------------------------------------------------

class Denoiser(nn.Module):
    """What to add to s. It hears the levels of K bands, as the net of fullband.py does, of y, s and x_t, and of x_t's
    lowest bins where they lie between s and the reach; t scales and shifts what enters every layer (FiLM, Perez et al.
    2018, arXiv 1709.07871). Out comes the sum of s, x_t - s and y - s, each times a complex mask. Untrained it is 0:
    the flow begins as its predictor. x_t - s comes times what a Gaussian would make of it: a mask of about 1 is right
    at all times, and the noise of t = 1 is never let in (without: 0.5 to 1 dB worse after 300 steps of training)."""

    def __init__(self, args: FlowArgs):
        super().__init__()
        self.args, n_bins = args, args.predictor.n_bins
        self.register_buffer("means", fullband.band_means(n_bins, args.n_bands), persistent=False)
        self.enter = nn.Linear(3 * args.n_bands + 2 * args.n_fine, args.width)
        self.time = nn.Sequential(nn.Linear(N_TIMES, 64), nn.SiLU(), nn.Linear(64, 2 * args.width * args.n_layers))
        self.layers = nn.ModuleList(fullband.Layer(args.width, args.hidden) for _ in range(args.n_layers))
        self.norm = nn.LayerNorm(args.width)
        self.masks = nn.Linear(args.width, 3 * 2 * n_bins)
        for linear in (self.time[2], self.masks):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, given: Condition, t: Tensor) -> Tensor:
        """Returns what to add to s, at most args.reach * R. [B, L, F], ..., [B] -> [B, L, F]"""
        change = regression(t, self.args.sigma) * (x - given.estimate)
        hidden = precision.at_least_fp32(self.enter(rearrange(self.features(x, change, given), "b l k -> l b k")))
        films = self.time(torch.cos(math.pi * t[:, None] * torch.arange(N_TIMES, device=t.device)))
        for layer, film in zip(self.layers, films.chunk(len(self.layers), dim=-1), strict=True):
            scale, shift = film.chunk(2, dim=-1)
            hidden = layer(hidden * (1 + scale) + shift)
        masks = rearrange(self.masks(self.norm(hidden)), "l b (n f c) -> n b l f c", n=3, c=2)
        of_s, of_x, of_y = torch.view_as_complex(precision.at_least_fp32(masks).contiguous())
        out = of_s * given.estimate + of_x * change + of_y * (given.mixture - given.estimate)
        return within(out, self.args.reach * given.reach)

    def features(self, x: Tensor, change: Tensor, given: Condition) -> Tensor:
        """Returns what the net hears of every frame. -> [B, L, 3K + 2 n_fine]"""
        n, alpha = self.args.n_fine, self.args.alpha
        levels = [fullband.band_levels(s.abs(), self.means, alpha) for s in (given.mixture, given.estimate, x)]
        fine = change[..., :n] / (given.reach[..., :n] + TINY**0.5)
        return torch.cat([*levels, torch.view_as_real(fine).flatten(-2)], dim=-1)


class Flow(nn.Module):
    """[B, T] -> [B, T], any T >= 1. f(a x) = a f(x) for a > 0, zeros to zeros, and no item of a batch sees another."""

    muon_excluded = "denoiser.enter", "denoiser.masks"  # between spectra and vectors

    def __init__(self, args: FlowArgs):
        super().__init__()
        self.args = args
        self.predictor = PREDICTORS[type(args.predictor)](args.predictor).eval().requires_grad_(False)
        self.denoiser = Denoiser(args)

    def train(self, mode: bool = True):
        super().train(mode)
        self.predictor.eval()
        return self

    def forward(self, mixture: Tensor, start: int = 0) -> Tensor:
        """Returns the estimate; start: which sample of its recording is the mixture's first. [B, T] -> [B, T]"""
        level = spectrum.level(mixture)
        given = self.condition(mixture / level)
        white = noise(start, mixture.shape[-1]).to(mixture)[None]

        def denoise(x: Tensor, t: float) -> Tensor:
            return self.denoise(x, given, x.real.new_full((len(x),), t))

        x = sample(denoise, self.start(given, white), self.args.steps)
        return self.signal(x, mixture.shape[-1]) * level

    @torch.no_grad()
    def condition(self, mixture: Tensor) -> Condition:
        """Returns what is known of a mixture of level 1: its spectrum, the predictor's estimate, the reach. [B, T]"""
        args = self.args
        y, s = (self.frames(signal) for signal in (mixture, self.predictor(mixture)))
        around = 2 * round(PRESENCE_S / 2 * args.sample_rate / args.predictor.hop) + 1
        power = s.abs().square()
        there = presence(power, y.abs().square(), around)
        reach = (local_level(power) * there).pow(args.alpha / 2)
        return Condition(compress(y, args.alpha), compress(s, args.alpha), reach)

    def start(self, given: Condition, white: Tensor) -> Tensor:
        """Returns s + sigma R z, where the flow begins. ..., [B or 1, T] -> [B, L, F]"""
        return given.estimate + self.args.sigma * given.reach * self.frames(white)

    def denoise(self, x: Tensor, given: Condition, t: Tensor) -> Tensor:
        """Returns D. [B, L, F], ..., [B] -> [B, L, F]"""
        return given.estimate + self.denoiser(x, given, t)

    def frames(self, signal: Tensor) -> Tensor:
        """Returns the spectrum, not compressed. [B, T] -> complex [B, L, F]"""
        return spectrum.stft(signal, self.args.predictor.n_fft, self.args.predictor.hop).mT

    def signal(self, x: Tensor, n_samples: int) -> Tensor:
        """Returns the samples of a compressed spectrum. complex [B, L, F] -> [B, n_samples]"""
        predictor, x = self.args.predictor, expand(x, self.args.alpha)
        return spectrum.istft(x.mT, predictor.n_fft, predictor.hop, n_samples)


# --- training --------------------------------------------------------------------------------------------------------

def loss(
    net: Flow, mixture: Tensor, target: Tensor, args: LossArgs, seeds: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The log-MSE of the denoiser in compressed bins, plus (1 - t) times that of its waveform: near t = 1 the mean of
    compressed bins is not that of waveforms. Times are random in training, otherwise the sampler's; by the logarithm
    each counts by the share of its error that goes. Of the args, only tau is used. An item's time and noise come from
    its own seed, so that no batch, thread or process matters. [B, T], [B, T], [B] -> scalar, its parts by name"""
    level, batch = spectrum.level(mixture), len(mixture)
    given = net.condition(mixture / level)
    bins = compress(net.frames(target / level), net.args.alpha)
    x = given.estimate + within(bins - given.estimate, net.args.reach * given.reach)  # as near as the flow can get
    if net.training:
        seeds = torch.randint(1 << 62, (batch,)) if seeds is None else seeds
        times, white = drawn(seeds, mixture.shape[-1], mixture.device)
    else:
        times = repeat(torch.arange(1, net.args.steps + 1) / net.args.steps, "n -> n b", b=batch)
        white = noise(0, mixture.shape[-1])[None]
    start, times = net.start(given, white.to(mixture)), times.to(mixture)
    in_bins, in_time = [], []
    for t in times:
        estimate = net.denoise(path(x, start, t), given, t)
        error, y = (torch.view_as_real(s).flatten(1) for s in (x - estimate, given.mixture))
        in_bins.append(log_mse(error=error, mixture=y, tau=args.tau))
        error = target - net.signal(estimate, mixture.shape[-1]) * level
        in_time.append((1 - t) * log_mse(error=error, mixture=mixture, tau=args.tau))
    in_bins, in_time = torch.stack(in_bins).mean(), torch.stack(in_time).mean()
    return in_bins + in_time, {"bins_db": in_bins.detach(), "time_db": in_time.detach()}


def drawn(seeds: Tensor, n_samples: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draws a time in (0, 1] and white noise for each item on the device; other devices draw others.
    [B] -> [1, B], [B, n_samples]"""
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds.tolist()]
    times = 1 - torch.stack([torch.rand(1, generator=g, device=device) for g in generators], dim=1)
    return times, torch.stack([torch.randn(n_samples, generator=g, device=device) for g in generators])


def extract(net: Flow, mixture: Tensor, start: int = 0) -> Tensor:
    """Returns the estimate; start: which sample of its recording is the first. [B, T] -> [B, T]"""
    return net(mixture, start)
