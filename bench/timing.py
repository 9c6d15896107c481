"""How long things take, one beside the other."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

CPU = torch.device("cpu")


def medians(works: Sequence[Callable[[], object]], repeats: int, device: torch.device = CPU) -> list[float]:
    """Seconds of a call of each, all in turn, since a machine is not at all times alike. The first round warms up."""
    taken = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, seconds in zip(works, taken, strict=True):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return [median(seconds[1:]) for seconds in taken]
