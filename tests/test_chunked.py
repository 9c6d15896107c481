"""Long recordings in pieces: what the net sees of each, and what is heard of it.

Recordings here are 1, 2, 3, ...: the value of a sample says where it lies.
"""

from threading import Barrier
from time import sleep

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from extractor.chunked import extract_long


def in_pieces(extract, n_samples: int, sizes: tuple[int, int, int], at_once: int = 1):
    """The blocks of the recording 1, 2, ... n_samples."""
    recording = np.arange(1, n_samples + 1, dtype=np.float32)

    def read(start: int, n: int) -> np.ndarray:
        assert 0 <= start and 1 <= n and start + n <= n_samples
        return recording[start : start + n]

    chunk, context, fade = sizes
    return extract_long(
        read, lambda mixture, start: extract(mixture), n_samples,
        chunk=chunk, context=context, fade=fade, at_once=at_once,
    )


def joined(extract, n_samples: int, sizes: tuple[int, int, int]) -> np.ndarray:
    return np.concatenate(list(in_pieces(extract, n_samples, sizes)))


@st.composite
def lengths_and_sizes(draw) -> tuple[int, tuple[int, int, int]]:
    context = draw(st.integers(0, 20))
    fade = draw(st.integers(0, context))
    chunk = draw(st.integers(max(1, fade), 30))
    around = st.sampled_from([1, max(1, chunk - 1), chunk, chunk + 1])
    return draw(around | st.integers(1, 300)), (chunk, context, fade)


@given(lengths_and_sizes())
@example((1, (10, 4, 2)))
@example((9, (10, 4, 2)))
@example((10, (10, 4, 2)))
@example((11, (10, 4, 2)))
@example((1003, (10, 4, 2)))
def test_a_net_that_is_the_identity_gives_the_recording_back_and_never_sees_more_than_a_chunk_and_its_contexts(sized):
    n, sizes = sized
    chunk, context, _ = sizes

    def identity(mixture: np.ndarray) -> np.ndarray:
        assert len(mixture) <= chunk + 2 * context
        return mixture

    np.testing.assert_allclose(joined(identity, n, sizes), np.arange(1, n + 1), rtol=1e-6)


def test_each_piece_is_seen_with_its_context_as_far_as_the_recording_goes():
    seen = []
    joined(lambda mixture: seen.append((mixture[0], mixture[-1])) or mixture, 10, (4, 2, 1))
    assert seen == [(1, 6), (3, 10), (7, 10)]  # of the pieces 1-4, 5-8, 9-10


@pytest.mark.parametrize("at_once", [1, 3])
def test_one_piece_more_is_read_and_in_memory_than_are_worked_on(at_once):
    read = []
    blocks = extract_long(
        lambda start, n: read.append(start) or np.ones(n, np.float32), lambda mixture, start: mixture, 100,
        chunk=10, context=0, fade=0, at_once=at_once,
    )
    next(blocks)
    assert len(read) == at_once + 1


def test_pieces_are_worked_on_at_once_and_handed_out_in_their_order():
    both = Barrier(2)  # passed where two are worked on at once

    def slow_first(mixture: np.ndarray) -> np.ndarray:
        both.wait(10)
        sleep(0.05 if mixture[0] == 1 else 0)
        return mixture

    estimate = np.concatenate(list(in_pieces(slow_first, 40, (10, 2, 1), at_once=2)))
    np.testing.assert_allclose(estimate, np.arange(1, 41), rtol=1e-6)


def test_an_error_in_a_piece_is_raised_where_its_block_is_due_and_ends_the_rest():
    seen = []

    def fails_at_the_third(mixture: np.ndarray) -> np.ndarray:
        seen.append(int(mixture[0]))
        if mixture[0] == 21:
            raise ValueError("the third")
        return mixture

    blocks = in_pieces(fails_at_the_third, 1000, (10, 0, 0), at_once=2)
    assert [len(next(blocks)), len(next(blocks))] == [10, 10]
    with pytest.raises(ValueError, match="the third"):
        next(blocks)
    assert max(seen) <= 51


def test_torchs_threads_are_divided_among_the_pieces():
    before, shares = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        blocks = in_pieces(lambda x: shares.append(torch.get_num_threads()) or x, 60, (10, 0, 0), at_once=2)
        assert len(list(blocks)) == 6
        assert (set(shares), torch.get_num_threads()) == ({2}, 4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("step, n_samples, sizes, expected", [
    (4, 13, (5, 3, 3), [0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7]),
    (4, 7, (5, 3, 3), [0, 0, 0, 0, 0, 1, 2]),
    (3, 6, (2, 2, 2), [0, 0, 1, 2, 4, 5]),
    (4, 7, (3, 2, 0), [0, 0, 0, 4, 4, 4, 8]),
], ids=["from where the next begins", "cut off at the end", "as long as the chunk", "no fade"])
def test_a_piece_fades_linearly_into_the_next(step, n_samples, sizes, expected):
    """The net answers its first piece with zeros, the second with `step`, the third with 2 * step ..."""
    pieces = iter(range(1000))
    found = joined(lambda mixture: np.full_like(mixture, step * next(pieces)), n_samples, sizes)
    np.testing.assert_array_equal(found, expected)


@given(lengths_and_sizes())
def test_what_the_net_gets_wrong_in_its_context_beyond_the_fade_is_never_heard(length_and_sizes):
    n, sizes = length_and_sizes
    _, context, fade = sizes

    def wrong_near_the_borders(mixture: np.ndarray) -> np.ndarray:
        estimate = mixture.copy()
        if mixture[0] > 1:  # not where the recording begins
            estimate[:context] = np.nan
        if mixture[-1] < n:  # not where it ends
            estimate[len(estimate) - (context - fade) :] = np.nan
        return estimate

    np.testing.assert_allclose(joined(wrong_near_the_borders, n, sizes), np.arange(1, n + 1), rtol=1e-6)


@pytest.mark.parametrize(
    "sizes", [(0, 0, 0), (4, 2, 3), (2, 4, 3), (4, 2, -1)],
    ids=["no chunk", "fade above context", "fade above chunk", "fade below 0"],
)
def test_sizes_that_cannot_be_are_refused_with_the_rule(sizes):
    with pytest.raises(ValueError, match="need 0 <= fade <= context and fade <= chunk"):
        joined(lambda mixture: mixture, 10, sizes)
