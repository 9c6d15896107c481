"""The training loss of the predictive families: log-MSE in the time domain, a share of it on the treble."""

from dataclasses import dataclass

from torch import Tensor, nn

from extractor import require
from extractor.metrics import EPS, decibel, energy


@dataclass(frozen=True)
class LossArgs:
    tau: float = 1e-3          # the log-MSE levels off at 10 log10(tau): -30 dB under the mixture is good enough
    treble_weight: float = 0.15  # 0 to 1: how much of the log-MSE is that of second differences, see `sharpened`

    def __post_init__(self):
        require(self, "tau", self.tau > 0, "give more than 0")
        require(self, "treble_weight", 0 <= self.treble_weight <= 1, "give a share, 0 to 1")


def log_mse(*, error: Tensor, mixture: Tensor, tau: float) -> Tensor:
    """10 log10((|x - e|^2 + tau |y|^2) / |y|^2) with target x, estimate e, their difference the error, mixture y.
    [..., T] -> [...], dB

    The mixture is the yardstick, so the same formula holds, with a useful gradient, where the target is silent.
    """
    y = energy(mixture) + EPS
    return decibel((energy(error) + tau * y) / y)


def sharpened(signal: Tensor) -> Tensor:
    """Second differences, 12 dB more per octave: a voice's treble is far weaker. [..., T] -> [..., max(0, T - 2)]"""
    return signal.diff(n=2)


def predictive_loss(
    net: nn.Module, mixture: Tensor, target: Tensor, args: LossArgs, seeds: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of nets that return the estimate in one go. net, [B, T], [B, T] -> scalar, its parts by name"""
    estimate = net(mixture)
    error = target - estimate
    loss = log_mse(error=error, mixture=mixture, tau=args.tau).mean()
    parts = {"log_mse_db": loss.detach()}
    if args.treble_weight:
        treble = log_mse(error=sharpened(error), mixture=sharpened(mixture), tau=args.tau).mean()
        loss, parts["treble_db"] = loss.lerp(treble, args.treble_weight), treble.detach()
    return loss, parts
