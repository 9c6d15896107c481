"""What a training step takes of the machine, before the first one."""

import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from extractor import UserError, tables
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
def measure(net: nn.Module, loss: Callable, shape: tuple[int, int], device: torch.device) -> Step:
    """From steps of a copy of the net: one on an item of noise, the others on batches [B, T]. The fastest of these
    counts: in the first one kernels are chosen, in any one the machine may be busy. loss: as in Backward.
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
    backward = Backward(trial, device, len(mixtures))
    taken: list[float] = []
    while len(taken) < 2 or len(taken) < 10 and sum(taken) < MEASURED_S:
        started = time.perf_counter()
        backward(loss, [batch], len(mixtures))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return found._replace(seconds=min(taken))


def free_bytes(device: torch.device) -> int:
    """Free memory in bytes: the GPU's, or the machine's for a CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: all there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


# ---------------------------------------------------------------------------------------------------------------------
# what is said of it. args: train.py's MainArgs; loss as in `measure`


def step_of(args, micro_batch_size: int, loss: Callable, net: nn.Module, device: torch.device) -> Step:
    return measure(net, loss, (micro_batch_size, round(args.data.segment_s * args.model.sample_rate)), device)


def cost(args, micro_batch_size: int, loss: Callable, net: nn.Module, device: torch.device) -> str:
    """Parameters, and what a step takes. Raises UserError where it does not fit."""
    try:
        step = step_of(args, micro_batch_size, loss, net, device)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{micro_batch_size} items of {args.data.segment_s:g} s do not fit into the memory of {device}: give "
            f"MainArgs.grad_accum_steps = {2 * args.grad_accum_steps}, or a smaller batch_size; "
            "--dry-run True says what fits"
        ) from None
    return (
        f"{sum(p.numel() for p in net.parameters()):,} parameters, "
        f"about {step.n_bytes(micro_batch_size) / 2**30:.1f} GiB for batches of {micro_batch_size} x "
        f"{args.data.segment_s:g} s, "
        f"about {3600 / step.seconds / args.grad_accum_steps:,.0f} steps per hour on {device}"
    )


def table(args, micro_batch_size: int, loss: Callable, net: nn.Module, device: torch.device) -> str:
    """For items of half, all and twice the length what memory they take, how many fit into what is free, and how long
    training takes."""
    free, rows = free_bytes(device), []
    for segment_s in (args.data.segment_s / 2, args.data.segment_s, 2 * args.data.segment_s):
        try:
            longer = replace(args, data=replace(args.data, segment_s=segment_s))
            step = step_of(longer, micro_batch_size, loss, net, device)
        except torch.OutOfMemoryError:
            rows.append([f"{segment_s:g}", "-", f"below {micro_batch_size}", "-", "-", "-"])
            continue
        a_step = step.seconds * args.grad_accum_steps
        rows.append([
            f"{segment_s:g}", f"{step.item / 2**20:.0f}", str(step.largest_batch(free)), f"{a_step:.3f}",
            f"{segment_s * micro_batch_size * args.grad_accum_steps / a_step:.0f}", f"{args.steps * a_step / 3600:.1f}",
        ])
    head = ["segment, s", "MiB an item", f"largest batch in {free / 2**30:.0f} GiB", f"s a step of {micro_batch_size}",
            "audio s per s", f"hours for {args.steps:,} steps"]
    return tables.markdown(head, rows)
