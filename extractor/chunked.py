"""Long recordings in pieces: each is extracted with context on both sides, the context is thrown away, the rest is
cross-faded. Memory does not grow with the recording, and no gain is chosen anywhere."""

from collections.abc import Callable, Iterator

import numpy as np


def extract_long(
    extract: Callable[[int, int], np.ndarray], n_samples: int, *, chunk: int, context: int, fade: int
) -> Iterator[np.ndarray]:
    """Blocks that together are n_samples long: the estimate of a recording of n_samples.

    extract(start, n) -> the estimate [n] of the n samples from `start` on, all inside the recording, by themselves;
    chunk: samples kept of each piece;  context: samples beyond either side that the net sees and nobody hears;
    fade: samples over which neighbours are cross-faded, linearly, inside the context.
    """
    if not 0 <= fade <= context or chunk < max(1, fade):
        raise ValueError(f"chunk {chunk}, context {context}, fade {fade}: need 0 <= fade <= context and fade <= chunk")
    rise = (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    tail = np.zeros(0, np.float32)  # the last piece's estimate of the samples that the next one also estimates
    for start in range(0, n_samples, chunk):
        stop = min(start + chunk, n_samples)
        left, right = max(0, start - context), min(stop + context, n_samples)
        estimate = extract(left, right - left)[start - left :]
        kept = estimate[: stop - start].copy()
        n = min(len(tail), len(kept))
        kept[:n] = rise[:n] * kept[:n] + (1 - rise[:n]) * tail[:n]
        tail = estimate[stop - start :][:fade]
        yield kept
