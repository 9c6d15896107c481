"""Where torch computes, and how its memory is kept."""

import ctypes

import torch

from extractor import UserError


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU, for which this process then keeps the memory that it frees.
    'cuda' is the GPU of the process's number on this machine."""
    n = torch.cuda.device_count()
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device = {name!r}: use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and device.index is None and n:
        device = torch.device("cuda", local_rank)  # NCCL wants the number said, 0 too
        if local_rank >= n:
            raise UserError(f"process {local_rank} of this machine has no GPU, there are {n}: --nproc_per_node {n}")
    if device.type == "cuda" and (device.index or 0) >= n:
        raise UserError(f"device = {name!r}, but torch {torch.__version__} sees {n} CUDA devices here: use auto or cpu")
    if device.type == "cuda" and local_rank and device.index != local_rank:
        raise UserError(f"device = {name!r} for every process of this machine: use auto, a GPU for each")
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory():
    """Ask the C library to keep freed memory for reuse, where it can be asked (glibc).

    It gives every block above 32 MiB back and asks for it again, page by page, at the next step: on a CPU that is up to
    half of a training step (bench/dptnet_step.py). All threads share one arena, for only the first one may grow so far.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    mallopt(arena_max, 1)
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
