"""Long recordings in pieces: what the net sees of each, and what is heard of it.

Recordings here are 1, 2, 3, ...: the value of a sample says where it lies.
"""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extractor.chunked import extract_long


def in_pieces(extract, n_samples: int, sizes: tuple[int, int, int]):
    """The blocks of the recording 1, 2, ... n_samples."""
    recording = np.arange(1, n_samples + 1, dtype=np.float32)

    def read(start: int, n: int) -> np.ndarray:
        assert 0 <= start and 1 <= n and start + n <= n_samples
        return recording[start : start + n]

    chunk, context, fade = sizes
    return extract_long(
        lambda start, n: extract(read(start, n)), n_samples, chunk=chunk, context=context, fade=fade
    )


def joined(extract, n_samples: int, sizes: tuple[int, int, int]) -> np.ndarray:
    return np.concatenate(list(in_pieces(extract, n_samples, sizes)))


def identity(mixture: np.ndarray) -> np.ndarray:
    return mixture


def one_constant_per_piece(step: float):
    """A net that answers its first piece with zeros, the second with `step`, the third with 2 * step ..."""
    pieces = iter(range(1000))
    return lambda mixture: np.full_like(mixture, step * next(pieces))


@st.composite
def all_sizes(draw) -> tuple[int, int, int]:
    context = draw(st.integers(0, 20))
    fade = draw(st.integers(0, context))
    return draw(st.integers(max(1, fade), 30)), context, fade


@st.composite
def lengths_and_sizes(draw) -> tuple[int, tuple[int, int, int]]:
    sizes = draw(all_sizes())
    chunk = sizes[0]
    around = st.sampled_from([1, max(1, chunk - 1), chunk, chunk + 1])
    return draw(around | st.integers(1, 300)), sizes


@given(lengths_and_sizes())
@example((1, (10, 4, 2)))
@example((9, (10, 4, 2)))
@example((10, (10, 4, 2)))
@example((11, (10, 4, 2)))
@example((1003, (10, 4, 2)))
def test_a_net_that_is_the_identity_gives_the_recording_back(length_and_sizes):
    n, sizes = length_and_sizes
    np.testing.assert_allclose(joined(identity, n, sizes), np.arange(1, n + 1), rtol=1e-6)


@given(lengths_and_sizes())
def test_the_net_never_sees_more_than_a_chunk_and_its_two_contexts(length_and_sizes):
    n, sizes = length_and_sizes
    chunk, context, _ = sizes
    seen = []
    joined(lambda mixture: seen.append(len(mixture)) or mixture, n, sizes)
    assert max(seen) <= chunk + 2 * context


def test_each_piece_is_seen_with_its_context_as_far_as_the_recording_goes():
    seen = []
    joined(lambda mixture: seen.append((mixture[0], mixture[-1])) or mixture, 10, (4, 2, 1))
    assert seen == [(1, 6), (3, 10), (7, 10)]  # of the pieces 1-4, 5-8, 9-10


def test_a_block_is_handed_out_before_the_next_piece_is_seen():
    seen = []
    blocks = in_pieces(lambda mixture: seen.append(len(mixture)) or mixture, 100, (10, 4, 2))
    assert len(next(blocks)) == 10
    assert len(seen) == 1


@pytest.mark.parametrize("step, n_samples, sizes, expected", [
    (4, 13, (5, 3, 3), [0, 0, 0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7]),
    (4, 7, (5, 3, 3), [0, 0, 0, 0, 0, 1, 2]),
    (3, 6, (2, 2, 2), [0, 0, 1, 2, 4, 5]),
    (4, 7, (3, 2, 0), [0, 0, 0, 4, 4, 4, 8]),
], ids=["from where the next begins", "cut off at the end", "as long as the chunk", "no fade"])
def test_a_piece_fades_linearly_into_the_next(step, n_samples, sizes, expected):
    np.testing.assert_array_equal(joined(one_constant_per_piece(step), n_samples, sizes), expected)


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
        joined(identity, 10, sizes)
