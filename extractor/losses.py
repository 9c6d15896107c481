"""The training loss of the predictive families: log-MSE in the time domain, and a multi-resolution STFT term on top."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from extractor import UserError
from extractor.metrics import EPS, decibel, energy


@dataclass(frozen=True)
class LossArgs:
    tau: float = 1e-3          # the log-MSE levels off at 10 log10(tau): -30 dB under the mixture is good enough
    treble_weight: float = 0.15  # 0 to 1: how much of the log-MSE is that of second differences, see `sharpened`
    stft_weight: float = 0.0   # of an STFT term, which is about 1 where the log-MSE is about 0 dB, and slow on a CPU
    stft_sizes: tuple[int, ...] = (512, 2048)  # windows, samples; hop is a quarter

    def __post_init__(self):
        if not self.tau > 0:
            raise UserError(f"LossArgs.tau = {self.tau}: give more than 0")
        if self.stft_weight and not (self.stft_weight > 0 and self.stft_sizes and min(self.stft_sizes) >= 4):
            raise UserError(
                f"LossArgs.stft_weight = {self.stft_weight}, stft_sizes = {self.stft_sizes}: give 0 or more, and "
                "windows of at least 4 samples"
            )
        if not 0 <= self.treble_weight <= 1:
            raise UserError(f"LossArgs.treble_weight = {self.treble_weight}: give a share, 0 to 1")


def log_mse(*, error: Tensor, mixture: Tensor, tau: float) -> Tensor:
    """10 log10((|x - e|^2 + tau |y|^2) / |y|^2) with target x, estimate e, their difference the error, mixture y.
    [..., T] -> [...], dB

    The mixture is the yardstick, so the same formula holds, with a useful gradient, where the target is silent.
    """
    y = energy(mixture) + EPS
    return decibel((energy(error) + tau * y) / y)


def sharpened(signal: Tensor) -> Tensor:
    """Its second differences: 12 dB more per octave, so that the treble of a voice, which is far under its vowels,
    counts beside them. [..., T] -> [..., max(0, T - 2)]"""
    return signal.diff(n=2)


def stft_distance(*, estimate: Tensor, target: Tensor, mixture: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Mean over the window sizes of L1(|X|, |E|) + L1(Re, Im of X - E), over the mean of |Y|. [B, T] -> [B]"""
    total = 0.0
    for size in sizes:
        window = torch.hann_window(size, device=mixture.device)
        x, e, y = (_spectrum(s.float(), window) for s in (target, estimate, mixture))
        magnitude = (x.abs() - e.abs()).abs().mean((-1, -2))  # abs of a complex 0 has the gradient 0
        parts = 2 * torch.view_as_real(x - e).abs().mean((-1, -2, -3))
        total = total + (magnitude + parts) / (y.abs().mean((-1, -2)) + EPS)
    return total / len(sizes)


def _spectrum(x: Tensor, window: Tensor) -> Tensor:
    """[B, T] -> complex [B, F, L]"""
    size = len(window)
    return torch.stft(x, size, size // 4, window=window, pad_mode="constant", return_complex=True)


def predictive_loss(
    net: nn.Module, mixture: Tensor, target: Tensor, args: LossArgs, seeds: Tensor | None = None
) -> tuple[Tensor, dict[str, float]]:
    """For nets that return the estimate in one go; draws nothing. net, [B, T], [B, T] -> scalar, its parts by name"""
    estimate = net(mixture)
    if estimate.shape != target.shape:
        shapes = tuple(estimate.shape), tuple(target.shape)
        raise UserError(f"the net estimates {shapes[0]} for a target of {shapes[1]}; n_src must be 1")
    error = target - estimate
    loss = log_mse(error=error, mixture=mixture, tau=args.tau).mean()
    parts = {"log_mse_db": loss.item()}
    if args.treble_weight:
        treble = log_mse(error=sharpened(error), mixture=sharpened(mixture), tau=args.tau).mean()
        loss, parts["treble_db"] = loss.lerp(treble, args.treble_weight), treble.item()
    if args.stft_weight:
        stft = stft_distance(estimate=estimate, target=target, mixture=mixture, sizes=args.stft_sizes).mean()
        loss, parts["stft"] = loss + args.stft_weight * stft, stft.item()
    return loss, parts
