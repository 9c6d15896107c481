"""What tests of nets share: signals to give them, and what comes back of a backward pass."""

import torch
from torch import Tensor, nn


def noise(*shape: int, **kwargs) -> Tensor:
    """The same at every call."""
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(1), **kwargs)


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
