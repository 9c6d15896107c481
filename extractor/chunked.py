"""Long recordings in pieces: each is extracted with context on both sides, the context is thrown away, the rest is
cross-faded. Memory does not grow with the recording, and no gain is chosen anywhere."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

MOST_AT_ONCE = 8  # pieces: each needs memory of its own


class Place(NamedTuple):
    """Where a piece lies in the recording, in samples: it is kept from start to stop, and seen from begin to end."""

    begin: int
    start: int
    stop: int
    end: int


def extract_long(
    read: Callable[[int, int], np.ndarray], extract: Callable[[np.ndarray, int], np.ndarray], n_samples: int,
    *, chunk: int, context: int, fade: int, at_once: int = 1,
) -> Iterator[np.ndarray]:
    """Blocks that together are n_samples long: the estimate of a recording of n_samples.

    read(start, n) -> the n samples of the recording from `start` on, asked for in their order, [n] or [n, channels];
    extract(mixture, start) -> the estimate of such samples, of their shape, by themselves, in one of `at_once` threads;
    chunk: samples kept of each piece;  context: samples beyond either side that the net sees and nobody hears;
    fade: samples over which neighbours are cross-faded, linearly, inside the context;
    at_once: pieces, by which torch's threads are divided.
    """
    check_sizes(chunk, context, fade)
    places = [
        Place(max(0, start - context), start, min(start + chunk, n_samples), min(start + chunk + context, n_samples))
        for start in range(0, n_samples, chunk)
    ]
    mixtures = ((read(place.begin, place.end - place.begin), place.begin) for place in places)
    yield from cross_faded(zip(places, in_threads(extract, mixtures, at_once), strict=True), fade)


def extract_stream(
    blocks: Iterable[np.ndarray], extract: Callable[[np.ndarray, int], np.ndarray],
    *, chunk: int, context: int, fade: int,
) -> Iterator[np.ndarray]:
    """As extract_long, of a recording whose samples arrive in blocks, [n] or [n, channels], and whose end is not known.
    A piece is extracted, in the caller's thread, as soon as its chunk and the context behind it have arrived."""
    check_sizes(chunk, context, fade)

    def arrived() -> Iterator[tuple[Place, np.ndarray]]:
        first, start, held = 0, 0, None  # held: the samples from the first on that are still needed

        def piece(end: int) -> tuple[Place, np.ndarray]:
            place = Place(max(0, start - context), start, min(start + chunk, end), end)
            return place, held[place.begin - first : end - first]

        for block in blocks:
            held = block if held is None else np.concatenate([held, block])
            while first + len(held) >= start + chunk + context:
                yield piece(start + chunk + context)
                start += chunk
                held, first = held[max(0, start - context) - first :], max(0, start - context)
        while held is not None and start < first + len(held):
            yield piece(min(start + chunk + context, first + len(held)))
            start += chunk

    yield from cross_faded(((place, extract(mixture, place.begin)) for place, mixture in arrived()), fade)


def check_sizes(chunk: int, context: int, fade: int):
    if not 0 <= fade <= context or chunk < max(1, fade):
        raise ValueError(f"chunk {chunk}, context {context}, fade {fade}: need 0 <= fade <= context and fade <= chunk")


def cross_faded(pieces: Iterable[tuple[Place, np.ndarray]], fade: int) -> Iterator[np.ndarray]:
    """Drops the contexts, and cross-fades each piece's estimate with what the last one estimated there."""
    rise = (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    tail = None  # the last piece's estimate of the samples that the next one also estimates
    for place, estimate in pieces:
        estimate = estimate[place.start - place.begin :]
        kept = estimate[: place.stop - place.start].copy()
        n = 0 if tail is None else min(len(tail), len(kept))
        if n:
            gain = rise[:n].reshape(n, *[1] * (kept.ndim - 1))
            kept[:n] = gain * kept[:n] + (1 - gain) * tail[:n]
        tail = estimate[place.stop - place.start :][:fade]
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
