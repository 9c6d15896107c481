"""The flow on distributions whose denoiser is known, and what it is made of."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import flow

# ---------------------------------------------------------------------------------------------------------------------
# the flow, with denoisers in closed form; s = 0, sigma R = SIGMA

SIGMA = 0.5


def normal(n: int = 200_000) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(2))


def of_two_points(x: torch.Tensor, t: float) -> torch.Tensor:
    """E[x | x_t] where x is -1 or 1: the log odds are 2 (1 - t) x_t / (t sigma)^2."""
    return torch.tanh((1 - t) * x / (t * SIGMA) ** 2)


def test_many_steps_draw_one_of_two_points_and_each_as_often():
    x = flow.sample(of_two_points, SIGMA * normal(), steps=32)
    assert x.abs().sub(1).abs().max() < 0.05
    assert abs(x.sign().mean()) < 0.01


def test_one_step_is_the_mean_of_both_points_and_four_are_nearly_at_them():
    assert flow.sample(of_two_points, SIGMA * normal(), steps=1).abs().max() == 0
    assert 0.97 < flow.sample(of_two_points, SIGMA * normal(), steps=4).abs().mean() < 1


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_denoiser_is_asked_at_equal_steps_from_1_and_its_last_word_counts(steps):
    asked = []

    def denoise(x, t):
        asked.append(t)
        return x + len(asked)

    start = normal(10)
    x = flow.sample(denoise, start, steps)
    assert asked == pytest.approx([1 - i / steps for i in range(steps)])
    # a step from t to t' adds (1 - t'/t) of what the denoiser added
    assert_close(x, start + sum((i + 1) / (steps - i) for i in range(steps)))


@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.0])
def test_compressing_takes_magnitudes_to_the_power_of_alpha_and_leaves_phases_and_comes_undone(alpha):
    x = torch.polar(torch.tensor([1e-2, 0.5, 3.0, 0.0]), torch.tensor([0.3, -2.0, 3.0, 0.0]))
    small = flow.compress(x, alpha)
    assert_close(small, torch.polar(x.abs() ** alpha, x.angle()), rtol=1e-4, atol=0)
    assert_close(flow.expand(small, alpha), x, rtol=1e-3, atol=0)


def test_expanding_zeros_has_finite_gradients():
    x = torch.zeros(4, dtype=torch.complex64, requires_grad=True)
    torch.view_as_real(flow.expand(x, 0.7)).sum().backward()
    assert torch.view_as_real(x.grad).isfinite().all()


def test_within_moves_only_what_is_outside_straight_to_the_rim():
    x = torch.tensor([3 + 4j, 0.3 + 0.4j, 0j, 5j])
    moved = flow.within(x, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert_close(moved, torch.tensor([0.6 + 0.8j, 0.3 + 0.4j, 0j, 0j]), rtol=1e-6, atol=1e-9)


@given(st.integers(0, 3 * flow.BLOCK), st.integers(1, flow.BLOCK + 1000))
@example(flow.BLOCK - 5, 5)
@example(flow.BLOCK - 5, 6)
@settings(max_examples=20)
def test_noise_is_the_same_wherever_a_piece_begins(start, n_samples):
    whole = flow.noise(0, 4 * flow.BLOCK + 1000)
    assert torch.equal(flow.noise(start, n_samples), whole[start : start + n_samples])


def test_noise_is_white_and_of_level_1_across_its_blocks():
    x = flow.noise(0, 4 * flow.BLOCK)
    assert x.std().item() == pytest.approx(1, abs=0.01) and abs(x.mean()) < 0.01
    for lag in (1, 16, flow.BLOCK):
        assert abs((x[lag:] * x[:-lag]).mean()) < 0.02


def test_presence_is_0_up_to_30_db_under_the_mixture_and_1_from_20_db_on():
    mixture = torch.ones(1, 1, 6)
    for db, expected in ((-60, 0), (-30.5, 0), (-25, 0.5), (-20, 1), (0, 1)):
        found = flow.presence(10 ** (db / 10) * mixture, mixture, n_frames=5)
        assert found.shape == (1, 1, 1) and found.item() == pytest.approx(expected, abs=1e-4)
    assert not flow.presence(torch.zeros(2, 7, 4), torch.zeros(2, 7, 4), n_frames=5).any()  # nor in silence


def test_presence_hears_the_frames_around():
    estimate, mixture = torch.zeros(1, 20, 4), torch.ones(1, 20, 4)
    estimate[:, 10] = 1
    assert flow.presence(estimate, mixture, n_frames=5)[0, :, 0].nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


def test_a_local_level_is_the_mean_power_of_5_frames_and_9_bins():
    power = torch.zeros(1, 20, 30)
    power[0, 10, 15] = 45
    expected = torch.zeros(1, 20, 30)
    expected[0, 8:13, 11:20] = 1
    assert_close(flow.local_level(power), expected)
    assert_close(flow.local_level(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))  # nothing counts beyond the borders


@pytest.mark.parametrize("t", [0.2, 0.7])
def test_the_regression_is_that_of_a_gaussian_of_level_1_on_the_path(t):
    x, z = normal(), torch.randn(200_000, generator=torch.Generator().manual_seed(3))
    on_path = (1 - t) * x + t * SIGMA * z
    expected = (x * on_path).mean() / on_path.square().mean()
    assert flow.regression(torch.tensor([t]), SIGMA).item() == pytest.approx(expected.item(), rel=0.02)
