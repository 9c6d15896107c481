"""The gradient of a batch on all cores of a CPU: each takes a part of the batch.

Torch by itself splits every operation over the cores, and they wait for one another after each. Parts of a batch wait
once, at the end, since no item of a batch sees another (bench/parts.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import torch
from torch import Tensor, nn

from extractor import UserError


class Backward:
    """backward(loss, batches, n_items) -> what all batches have of the mean loss of n_items, and of its parts by name;
    the net has the gradient, that of one batch of n_items where the batches hold them all.

    loss(net, mixture [B, T], target [B, T], seeds [B], speakers [B]) -> scalar, {name: scalar}, means over the items.
    What it draws comes from the seeds, and layers must not draw, or it would depend on which thread comes first.
    batches: {"mixture": [B, T], "target": [B, T], "seed": [B], "speaker": [B]}, one at a time on the device. Without
    "speaker" the loss is given none.
    On a CPU there are as many parts of a batch as torch has threads, at most one an item; on other devices one.
    compiled: the layers are, by torch.compile, at the first batch. Raises UserError where that fails.
    """

    def __init__(self, net: nn.Module, device: torch.device, batch_size: int, *, compiled: bool = False):
        self.device, self.threads, self.compiled = device, torch.get_num_threads(), compiled
        self.nets = [net]
        if device.type == "cpu":
            self.nets += [replica(net) for _ in range(min(self.threads, batch_size) - 1)]
        for n in self.nets if compiled else ():
            for layer in layers_of(n):
                layer.compile(dynamic=False)
        self.pool = ThreadPoolExecutor(len(self.nets))

    def __call__(
        self, loss: Callable, batches: Iterable[Mapping[str, Tensor]], n_items: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not self.compiled:
            return self.run(loss, batches, n_items)
        from torch._dynamo.exc import TorchDynamoException  # which takes seconds

        try:
            return self.run(loss, batches, n_items)
        except TorchDynamoException as e:
            why = str(e).strip().split("\n")[0]
            needs = "it needs a C++ compiler, or Triton"
            raise UserError(f"MainArgs.compile: torch.compile fails here ({why}); {needs}: leave it off") from None

    def run(self, loss: Callable, batches: Iterable[Mapping[str, Tensor]], n_items: int) -> tuple[Tensor, dict]:
        for net in self.nets:
            net.zero_grad(set_to_none=True)
        total, named = torch.zeros((), device=self.device), {}
        for batch in batches:
            for value, parts in self.parts(loss, batch, n_items):
                total = total + value
                named = {name: named.get(name, 0) + part for name, part in parts.items()}
        for net in self.nets[1:]:
            if there := gradients(net):
                torch._foreach_add_(gradients(self.nets[0]), there)
        return total, named

    def parts(self, loss: Callable, batch: Mapping[str, Tensor], n_items: int) -> Iterator[tuple[Tensor, dict]]:
        n_parts = min(len(self.nets), len(batch["mixture"]))

        def work(net: nn.Module, mixture: Tensor, *others: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            value, named = loss(net, mixture, *others)
            share = len(mixture) / n_items
            (share * value).backward()
            return share * value.detach(), {name: share * v for name, v in named.items()}

        def work_in_thread(*part) -> tuple[Tensor, dict[str, Tensor]]:
            torch.set_num_threads(max(1, self.threads // n_parts))  # this one's
            return work(*part)

        signals = (batch[name].to(self.device, non_blocking=True) for name in ("mixture", "target"))
        numbers = (batch[name] for name in ("seed", "speaker") if name in batch)
        parts = self.nets[:n_parts], *(x.tensor_split(n_parts) for x in (*signals, *numbers))
        return map(work, *parts) if n_parts == 1 else self.pool.map(work_in_thread, *parts)


def replica(net: nn.Module) -> nn.Module:
    """A net with the same weights, in the same memory, that has gradients of its own."""
    shared = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in net.parameters()}
    return deepcopy(net, shared | {id(buffer): buffer for buffer in net.buffers()})


def layers_of(net: nn.Module) -> list[nn.Module]:
    """The layers that follow one another, to be compiled each by itself, as they are alike: what lies around them are
    spectra, complex numbers, of which torch.compile makes nothing."""
    return [layer for layers in net.children() if isinstance(layers, nn.ModuleList) for layer in layers]


def gradients(net: nn.Module) -> list[Tensor]:
    return [p.grad for p in net.parameters() if p.grad is not None]
