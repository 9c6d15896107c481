"""The gradient of a batch on all cores of a CPU: each takes a part of the batch.

Torch by itself splits every operation over the cores, and they wait for one another after each. Parts of a batch wait
once, at the end, since no item of a batch sees another (bench/parts.py).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import torch
from torch import Tensor, nn


class Backward:
    """backward(loss, mixture, target) -> the loss of a batch, and its parts by name; the net has the gradient.

    loss(net, mixture [B, T], target [B, T], generator) -> scalar, {name: value}, means over the items. It may draw from
    the generator only, and layers must not draw, or what is drawn would depend on which thread comes first.
    On a CPU there are as many parts as torch has threads, at most one an item; on other devices there is one.
    """

    def __init__(self, net: nn.Module, device: torch.device, batch_size: int):
        self.threads = torch.get_num_threads()
        self.nets = [net]
        if device.type == "cpu":
            self.nets += [twin(net) for _ in range(min(self.threads, batch_size) - 1)]
        self.pool = ThreadPoolExecutor(len(self.nets))

    def __call__(self, loss: Callable, mixture: Tensor, target: Tensor) -> tuple[Tensor, dict[str, float]]:
        n_parts = min(len(self.nets), len(mixture))
        nets, n_items = self.nets[:n_parts], len(mixture)

        def work(net: nn.Module, mixture: Tensor, target: Tensor, seed: int) -> tuple[Tensor, dict[str, float]]:
            net.zero_grad(set_to_none=True)
            value, named = loss(net, mixture, target, torch.Generator().manual_seed(seed))
            share = len(mixture) / n_items
            (share * value).backward()
            return share * value.detach(), {name: share * v for name, v in named.items()}

        def work_in_thread(*part) -> tuple[Tensor, dict[str, float]]:
            torch.set_num_threads(max(1, self.threads // n_parts))  # this one's
            return work(*part)

        seeds = torch.randint(2**62, (n_parts,)).tolist()
        parts = nets, mixture.tensor_split(n_parts), target.tensor_split(n_parts), seeds
        done = [*map(work, *parts)] if n_parts == 1 else [*self.pool.map(work_in_thread, *parts)]
        for net in nets[1:]:
            torch._foreach_add_(gradients(nets[0]), gradients(net))
        return sum(value for value, _ in done), {k: sum(named[k] for _, named in done) for k in done[0][1]}


def twin(net: nn.Module) -> nn.Module:
    """A net with the same weights, in the same memory, that has gradients of its own."""
    shared = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in net.parameters()}
    return deepcopy(net, shared | {id(buffer): buffer for buffer in net.buffers()})


def gradients(net: nn.Module) -> list[Tensor]:
    return [p.grad for p in net.parameters() if p.grad is not None]
