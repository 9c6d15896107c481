"""Processes that make mixtures while a net learns from others: how many, and what is said where they fail."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from extractor import UserError

GRACE_S = 600  # that they live on when told to end, so that a long validation and the last step find them
MOST = 8       # for a GPU; each makes about 140 mixtures of 4 s a second


def n_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def n_workers(device: torch.device) -> int:
    """Two beside the net on a CPU; for a GPU all cores but one, at most MOST, shared by the processes of a team."""
    if device.type == "cpu":
        return 2
    return max(1, min(MOST, n_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


def in_turns(
    items: Dataset, sampler: Sampler, micro_batch_size: int, n: int, *, workers: int, device: torch.device
) -> Iterator[list[dict]]:
    """The micro batches of every step, n of them. Raises UserError where an item's "error" says that it has failed."""
    batches = iter(DataLoader(
        items, micro_batch_size, sampler=sampler, num_workers=workers, worker_init_fn=defer_sigterm,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # the loader seeds its workers; torch's own state is the net's
    ))
    try:
        while step := list(islice(batches, n)):
            if errors := [error for batch in step for error in batch["error"] if error]:
                raise UserError(errors[0])
            yield step
    finally:  # not when it is collected: a kept traceback would keep it, and Python waits for workers at its end
        getattr(batches, "_shutdown_workers", lambda: None)()


def defer_sigterm(_: int):
    """In a DataLoader's worker: told to end, as all of a job's processes may be at once, it does so when its own has
    no more use for it, or is gone, or else GRACE_S later."""
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))


@contextmanager
def workers_told_apart() -> Iterator[None]:
    """UserError instead of torch's RuntimeError, which may come at any moment, where a worker has no memory."""
    try:
        yield
    except RuntimeError as e:
        if "shared memory" in str(e):
            remedy = "start the container with --shm-size=1g, or give --workers 0"
            what = "too little shared memory (/dev/shm) for the processes that make mixtures"
            raise UserError(f"{what}: {remedy}") from None
        if "DataLoader worker" in str(e) and ("killed by signal" in str(e) or "exited unexpectedly" in str(e)):
            what = "a process that makes mixtures was ended from outside, as a system without free memory does"
            raise UserError(f"{what}: give a smaller --workers") from None
        raise
