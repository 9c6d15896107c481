"""What tests of nets share: small ones, signals to give them, and what comes back of a backward pass."""

import torch
from torch import Tensor, nn

from bandsplit import BandSplitArgs
from dptnet import DPTNetArgs
from fullband import FullBandArgs
from rwkvnet import RWKVNetArgs

DPTNET = DPTNetArgs(kernel=16, n_filters=24, bottleneck=8, hidden=6, n_blocks=2, n_heads=2, chunk_frames=10)
RWKVNET = RWKVNetArgs(kernel=16, n_filters=24, bottleneck=12, n_blocks=2, n_heads=2, chunk_frames=10)
FULLBAND = FullBandArgs(8000, n_fft=64, hop=16, n_bands=12, width=16, hidden=8, n_layers=2)
BANDSPLIT = BandSplitArgs(
    8000, n_fft=64, hop=16, bands=((1000, 125), (2000, 250)), width=8, n_blocks=2, n_heads=2, hidden=6
)  # bins of 125 Hz: 8 bands of 1 bin, 4 of 2, and the other 17 bins


def noise(*shape: int, seed: int = 1, **kwargs) -> Tensor:
    """The same at every call."""
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kwargs)


def gradients(net: nn.Module, mixture: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Of a squared error, by name."""
    net.zero_grad()
    (net(mixture) - target).square().mean().backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def kept_bytes(net: nn.Module, mixture: Tensor) -> int:
    """What autograd keeps from the forward to the backward pass, the weights aside."""
    kept = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        estimate = net(mixture)
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    assert estimate.requires_grad
    return sum(n_bytes for address, n_bytes in kept.items() if address not in weights)
