"""Long recordings in pieces: each is extracted with context on both sides, the context is thrown away, the rest is
cross-faded. Memory does not grow with the recording, and no gain is chosen anywhere."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

MOST_AT_ONCE = 8  # pieces: each needs memory of its own


def extract_long(
    read: Callable[[int, int], np.ndarray], extract: Callable[[np.ndarray, int], np.ndarray], n_samples: int,
    *, chunk: int, context: int, fade: int, at_once: int = 1,
) -> Iterator[np.ndarray]:
    """Blocks that together are n_samples long: the estimate of a recording of n_samples.

    read(start, n) -> the n samples of the recording from `start` on, asked for in their order;
    extract(mixture [n], start) -> the estimate [n] of such samples, by themselves, in one of `at_once` threads;
    chunk: samples kept of each piece;  context: samples beyond either side that the net sees and nobody hears;
    fade: samples over which neighbours are cross-faded, linearly, inside the context;
    at_once: pieces, by which torch's threads are divided.
    """
    if not 0 <= fade <= context or chunk < max(1, fade):
        raise ValueError(f"chunk {chunk}, context {context}, fade {fade}: need 0 <= fade <= context and fade <= chunk")
    rise = (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    tail = np.zeros(0, np.float32)  # the last piece's estimate of the samples that the next one also estimates
    starts = range(0, n_samples, chunk)
    seen = [(max(0, start - context), min(start + chunk + context, n_samples)) for start in starts]
    mixtures = ((read(begin, end - begin), begin) for begin, end in seen)
    for start, (begin, _), estimate in zip(starts, seen, in_threads(extract, mixtures, at_once), strict=True):
        stop, estimate = min(start + chunk, n_samples), estimate[start - begin :]
        kept = estimate[: stop - start].copy()
        n = min(len(tail), len(kept))
        kept[:n] = rise[:n] * kept[:n] + (1 - rise[:n]) * tail[:n]
        tail = estimate[stop - start :][:fade]
        yield kept


def in_threads(function: Callable, items: Iterable[tuple], n_threads: int) -> Iterator:
    """function(*item) of each item, in their order. The caller's thread takes the items, one more than there are
    threads, while the threads work: decoding and resampling go on beside the net."""
    each = max(1, torch.get_num_threads() // n_threads)
    waiting: deque = deque()
    # set_num_threads holds for the thread that calls it
    pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(each,))
    try:
        for item in items:
            waiting.append(pool.submit(function, *item))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def pieces_at_once(device: torch.device) -> int:
    """Pieces worth their memory: on a CPU one for each of torch's threads, which else wait after each operation."""
    return min(MOST_AT_ONCE, torch.get_num_threads()) if device.type == "cpu" else 1
