"""Where torch computes, and how its memory is kept."""

import ctypes
import os
import shutil

import torch

from extractor import UserError


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU, for which this process then keeps the memory that it frees.
    'cuda' is the GPU of the process's number on this machine."""
    n = torch.cuda.device_count()
    try:
        device = torch.device(automatic() if name == "auto" else name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device = {name!r}: use auto, cpu, cuda or cuda:1")
    if device.type == "cpu":
        keep_freed_memory()
        return device
    if device.index is None and n:
        device = torch.device("cuda", local_rank)  # NCCL wants the number said, 0 too
        if local_rank >= n:
            raise UserError(f"process {local_rank} of this machine has no GPU, there are {n}: --nproc_per_node {n}")
    if (device.index or 0) >= n:
        seen = f"device = {name!r}, but torch {torch.__version__} sees {n} CUDA devices here: use auto or cpu"
        raise UserError(f"{seen}; {NO_CUDA}" if hidden_gpu() else seen)
    if local_rank and device.index != local_rank:
        raise UserError(f"device = {name!r} for every process of this machine: use auto, a GPU for each")
    if not knows(device.index or 0):
        card, made_for = torch.cuda.get_device_name(device), " ".join(torch.cuda.get_arch_list())
        raise UserError(f"{card} is none of the GPUs that this torch was built for ({made_for}): give --device cpu")
    torch.cuda.set_device(device)  # or memory is taken of GPU 0, too
    return device


NO_CUDA = "there is an NVIDIA card, but this torch was built without CUDA: see \"A GPU\" in docs/training.md"


def automatic() -> str:
    """'cuda', or 'cpu' where there is no GPU, or none that this torch can use, which is said."""
    if not torch.cuda.is_available():
        if hidden_gpu():
            print(f"{NO_CUDA}; the CPU is used")
        return "cpu"
    if "LOCAL_RANK" not in os.environ and not knows(0):  # of a team all compute on the same kind
        print(f"{torch.cuda.get_device_name(0)} is too old for this torch; the CPU is used")
        return "cpu"
    return "cuda"


def hidden_gpu() -> bool:
    """Whether there is an NVIDIA driver, of which torch knows nothing as it was built without CUDA."""
    return torch.version.cuda is None and torch.version.hip is None and shutil.which("nvidia-smi") is not None


def knows(index: int) -> bool:
    """Whether torch has kernels for a GPU: of its generation and no later, or in PTX, which every later one takes."""
    built_for = [arch.partition("_") for arch in torch.cuda.get_arch_list() if arch.startswith(("sm_", "compute_"))]
    own = torch.cuda.get_device_capability(index)
    for kind, _, number in built_for:
        digits = number.rstrip("af")  # sm_90a is for this one alone
        made_for = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and made_for <= own or made_for[0] == own[0] and made_for[1] <= own[1]:
            return True
    return not built_for  # AMD's


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
