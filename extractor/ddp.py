"""Processes that train one net together, a GPU each, as torchrun starts them. A process by itself is a team of one.

They share every batch, and add up their gradients in one message a step. (DistributedDataParallel sends them while
others are still computed; but it wants one backward pass a step, and here every thread and part of a batch has one.)
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # now: later its default arguments would keep the group, threads and all
from torch import Tensor

PATIENCE = timedelta(hours=2)  # while one of them looks through the recordings, or decodes them

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine

    def total(self, tensors: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """Sums over all processes: of tensors of one device in place, of numbers [N] there as what is returned."""
        if self.size == 1:
            return numbers
        sums = numbers.clone()
        together([*tensors, sums], dist.all_reduce)
        return sums

    def align(self, tensors: Sequence[Tensor]):
        """The first process's values for all, in place: other machines round otherwise, and nets would part in time."""
        kinds = dict.fromkeys((t.dtype, t.device) for t in tensors)  # in the same order everywhere
        for kind in kinds if self.size > 1 else ():
            together([t for t in tensors if (t.dtype, t.device) == kind], partial(dist.broadcast, src=0))

    def gather(self, value: T) -> list[T]:
        """What each of them has, in order of rank. Plain values and tensors on the CPU."""
        found = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process of every machine goes ahead, so that the others find what it made."""
        for turn in (True, False):
            if (self.local_rank == 0) == turn:
                yield
            if self.size > 1:
                dist.barrier()


@torch.no_grad()
def together(tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]):
    """Exchanges the values of tensors, in place, in one message."""
    message = torch.cat([t.flatten() for t in tensors])
    message = message.cpu() if dist.get_backend() == "gloo" else message  # it knows the memory of CPUs alone
    exchange(message)
    for tensor, part in zip(tensors, message.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """All processes that torchrun has started, once they have met. Only the first one prints."""
    if (size := int(os.environ.get("WORLD_SIZE", 1))) == 1:
        yield Team()
        return
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    if size == int(os.environ.get("LOCAL_WORLD_SIZE", size)):
        # torchrun's own store, which is this one, still has the addresses of those who met before a restart
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend, gpu = ("nccl", device) if device.type == "cuda" and dist.is_nccl_available() else ("gloo", None)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE, device_id=gpu)
    said = sys.stdout
    if rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        yield Team(rank, size, local_rank())
    except SystemExit:
        dist.destroy_process_group()
        raise
    else:  # who fails alone just ends, and torchrun ends the others: NCCL would wait for them here
        dist.destroy_process_group()
    finally:
        sys.stdout = said


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))
