"""What tests of the flow share: tiny nets, and how far apart signals are."""

import torch

from bandsplit import BandSplitArgs
from extractor import spectrum
from flow import Condition, Flow, FlowArgs
from fullband import FullBandArgs

RATE = 8000
PREDICTIVE = FullBandArgs(sample_rate=RATE, n_fft=64, hop=16, n_bands=12, width=16, hidden=8, n_layers=1)
SMALL = FlowArgs(predictor=PREDICTIVE, n_bands=10, n_fine=5, width=16, hidden=8, n_layers=2, steps=3)
BANDS = BandSplitArgs(RATE, n_fft=64, hop=16, bands=((2000, 500),), width=8, n_blocks=1, n_heads=2, hidden=8)


def make(args: FlowArgs = SMALL) -> Flow:
    torch.manual_seed(0)
    return Flow(args)


def trained(args: FlowArgs = SMALL, size: float = 0.3) -> Flow:
    """As after many steps: nothing of the denoiser is zero."""
    net = make(args)
    for parameter in net.denoiser.parameters():
        parameter.data += size * torch.randn(parameter.shape)
    return net.eval()


def constant_predictor(net: Flow, gain: float) -> Flow:
    """Whose frozen net answers with gain times the mixture, untouched by weights."""
    net.predictor.forward = lambda mixture: gain * mixture
    return net


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def given_by(net: Flow, mixture: torch.Tensor) -> Condition:
    return net.condition(mixture / spectrum.level(mixture))
