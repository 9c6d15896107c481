"""What a training step takes of the machine, before the first one."""

import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from extractor import UserError, tables
from extractor.parallel import Backward

SPARE = 0.8   # of the free memory that may be filled: pieces lie between which nothing fits
SPANS = 3     # of whole steps, the fastest of which counts
SPAN_S = 4.0


class Memory(NamedTuple):
    """Bytes, where a step needs the most."""

    fixed: int  # weights, gradient, two moments, average, and what any batch needs
    item: int   # what every item of a batch adds

    def n_bytes(self, batch_size: int) -> int:
        return self.fixed + batch_size * self.item

    def largest_batch(self, free: int) -> int:
        return max(0, int(SPARE * free - self.fixed) // max(1, self.item))


@torch.random.fork_rng(devices=[])  # what is drawn in training must not depend on this
def memory(net: nn.Module, loss: Callable, shape: tuple[int, int], device: torch.device) -> Memory:
    """Of a step with a batch [B, T], by steps of a copy of the net with one item of noise and with two; on a GPU then
    with all of them. loss: as in Backward. Raises torch.OutOfMemoryError where the batch does not fit."""
    trial = deepcopy(net).to(device)  # which lays the weights of cuDNN's LSTMs side by side again
    backward = Backward(trial, device, 1)

    def step(n: int) -> int:
        mixtures = torch.randn(n, shape[1], generator=torch.Generator().manual_seed(0)).to(device)
        batch = {"mixture": mixtures, "target": mixtures, "seed": torch.arange(n)}
        trial.zero_grad(set_to_none=True)
        with peak(device) as most:
            backward(loss, [batch], n)
        return most[0]

    _, one, two = step(1), step(1), step(2)  # in the first one kernels are chosen
    weights = 4 * sum(p.numel() for p in net.parameters())  # one has the gradient
    found = Memory(4 * weights + max(weights, 2 * one - two), max(0, two - one))
    unguarded = device.type == "cpu" or sys.platform == "win32"  # the system would end this process, or spill into RAM
    if unguarded and 0 < free_bytes(device) < found.n_bytes(shape[0]):
        raise torch.OutOfMemoryError
    if device.type == "cuda":
        step(shape[0])
    return found


@contextmanager
def peak(device: torch.device) -> Iterator[list[int]]:
    """In the list afterwards: the most bytes of the device that tensors made inside had at a time."""
    most: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield most
        most.append(torch.cuda.max_memory_allocated(device) - before)
    else:
        with Made() as made:
            yield most
        most.append(made.most)


class Made(TorchDispatchMode):
    """Counts the bytes of tensors that operations of this thread make, backward too, until they are gone."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        new = {s._cdata: s for s in (x.untyped_storage() for x in tree_leaves(out) if isinstance(x, Tensor))}
        for storage in (s for address, s in new.items() if address not in given):
            self.change(storage.nbytes())
            weakref.finalize(storage, self.change, -storage.nbytes())
        return out

    def change(self, n_bytes: int):
        self.now += n_bytes
        self.most = max(self.most, self.now)


def seconds_a_step(steps: Iterator, warm: int) -> float:
    """Of whole steps, which are done as they are drawn. In the first ones all starts up, and `warm` more may have been
    prepared meanwhile; then the fastest span counts, as the machine may be busy with something else."""
    started = time.monotonic()
    for n, _ in enumerate(steps, 1):
        if n >= 2 and (n >= 2 + warm or time.monotonic() - started > SPAN_S):
            break
    started, spans = time.monotonic(), []
    while len(spans) < SPANS and time.monotonic() - started < SPANS * SPAN_S:
        began, n, taken = time.monotonic(), 0, 0.0
        while taken < SPAN_S:
            next(steps)
            n, taken = n + 1, time.monotonic() - began
        spans.append(taken / n)
    return min(spans)


def free_bytes(device: torch.device) -> int:
    """Free memory in bytes: the GPU's, or the machine's for a CPU; 0 where the system does not say, as Windows."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: all there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


# --- what is said of it. args: train.py's MainArgs; loss as in `memory` ----------------------------------------------

def memory_of(args, micro_batch_size: int, loss: Callable, net: nn.Module, device: torch.device) -> Memory:
    return memory(net, loss, (micro_batch_size, round(args.data.segment_s * args.model.sample_rate)), device)


def cost(args, micro_batch_size: int, loss: Callable, net: nn.Module, device: torch.device) -> str:
    """Parameters, and the memory of a step. Raises UserError where it does not fit."""
    try:
        needed = memory_of(args, micro_batch_size, loss, net, device)
    except torch.OutOfMemoryError:
        items = f"{micro_batch_size} items of {args.data.segment_s:g} s do not fit into the memory of {device}"
        remedy = f"give MainArgs.grad_accum_steps = {2 * args.grad_accum_steps}, or a smaller batch_size"
        raise UserError(f"{items}: {remedy}; --dry-run True says what fits") from None
    parameters, gib = sum(p.numel() for p in net.parameters()), needed.n_bytes(micro_batch_size) / 2**30
    batches = f"batches of {micro_batch_size} x {args.data.segment_s:g} s on {device}"
    return f"{parameters:,} parameters, about {gib:.1f} GiB for {batches}"


def table(
    args, micro_batch_size: int, loss: Callable, net: nn.Module, device: torch.device, seconds_of: Callable
) -> str:
    """For items of half, all and twice the length what memory they take, how many fit into what is free, and how long
    training takes. seconds_of(args): of a whole step"""
    free, rows = free_bytes(device), []
    for segment_s in (args.data.segment_s / 2, args.data.segment_s, 2 * args.data.segment_s):
        try:
            longer = replace(args, data=replace(args.data, segment_s=segment_s))
            needed = memory_of(longer, micro_batch_size, loss, net, device)
            a_step = seconds_of(longer)
        except torch.OutOfMemoryError:
            rows.append([f"{segment_s:g}", "-", f"below {micro_batch_size}", "-", "-", "-"])
            continue
        rows.append([
            f"{segment_s:g}", f"{needed.item / 2**20:.0f}", str(needed.largest_batch(free)) if free else "unknown",
            f"{a_step:.3f}", f"{segment_s * micro_batch_size * args.grad_accum_steps / a_step:.0f}",
            f"{args.steps * a_step / 3600:.1f}",
        ])
    head = ["segment, s", "MiB an item", f"largest batch in {free / 2**30:.0f} GiB", f"s a step of {micro_batch_size}",
            "audio s per s", f"hours for {args.steps:,} steps"]
    return tables.markdown(head, rows)
