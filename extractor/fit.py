"""What a training step takes of the machine, before the first one."""

import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from extractor.parallel import Backward

MEASURED_S = 2.0  # that trial steps may take
SPARE = 0.8       # of the free memory that may be filled: what a step keeps is not all that it needs


class Step(NamedTuple):
    weights: int    # bytes, fp32: the weights, their gradient, two moments and average
    item: int       # bytes that are kept of each item for the backward pass
    seconds: float

    def n_bytes(self, batch_size: int) -> int:
        return self.weights + batch_size * self.item

    def largest_batch(self, free: int) -> int:
        return max(0, int(SPARE * free - self.weights) // max(1, self.item))


@torch.random.fork_rng(devices=[])  # what is drawn in training must not depend on this
def measure(
    net: nn.Module, loss: Callable, shape: tuple[int, int], device: torch.device, *, compiled: bool = False
) -> Step:
    """From steps of a copy of the net: one on an item of noise, the others on batches [B, T]. The fastest of these
    counts: in the first one kernels are chosen, in any one the machine may be busy. loss, compiled: as in Backward.
    Raises torch.OutOfMemoryError where a batch does not fit."""
    trial = deepcopy(net).to(device)  # which lays the weights of cuDNN's LSTMs side by side again
    mixtures = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    batch = {"mixture": mixtures, "target": mixtures, "seed": torch.arange(len(mixtures))}
    saved: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        one = {name: x[:1].clone() for name, x in batch.items()}  # no view, which would keep the batch
        Backward(trial, device, 1)(loss, [one], 1)
    found = Step(20 * sum(p.numel() for p in net.parameters()), sum(saved.values()), 0.0)
    if device.type == "cpu" and found.n_bytes(len(mixtures)) > (free_bytes(device) or math.inf):
        raise torch.OutOfMemoryError  # a GPU says so by itself; here the system would end this process
    backward = Backward(trial, device, len(mixtures), compiled=compiled)
    taken: list[float] = []
    while len(taken) < 2 or len(taken) < 10 and sum(taken) < MEASURED_S:
        started = time.perf_counter()
        backward(loss, [batch], len(mixtures))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return found._replace(seconds=min(taken))


def free_bytes(device: torch.device) -> int:
    """Of the GPU's memory, or of the machine's, what is there to be had now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: all there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
