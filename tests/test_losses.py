"""The training loss of the predictive families, by hand and against its definition written as a loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import noise
from torch import Tensor
from torch.testing import assert_close

from extractor import UserError
from losses import LossArgs, log_mse, predictive_loss, sharpened

TAU = 1e-3


def db(ratio: float) -> float:
    return 10 * math.log10(ratio)


@pytest.mark.parametrize("mixture, target, estimate, expected", [
    ([3, 4], [3, 0], [3, 0], db(TAU)),                      # perfect
    ([3, 4], [0, 0], [0, 0], db(TAU)),                      # perfect silence
    ([3, 4], [3, 4], [0, 0], db(1 + TAU)),                  # all of the target lost
    ([3, 4], [0, 0], [3, 4], db(1 + TAU)),                  # nothing done where nobody speaks
    ([3, 4], [3, 0], [3, 4], db((16 + 25 * TAU) / 25)),     # nothing done
    ([3, 4], [3, 0], [3, 1], db((1 + 25 * TAU) / 25)),
    ([3, 4], [3, 0], [-3, 0], db((36 + 25 * TAU) / 25)),    # the wrong sign
])
def test_log_mse_by_hand(mixture, target, estimate, expected):
    mixture, target, estimate = (torch.tensor(s, dtype=torch.float32) for s in (mixture, target, estimate))
    value = log_mse(error=target - estimate, mixture=mixture, tau=TAU)
    assert value.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("hz, gain_db", [(100, -73.86), (1000, -33.87), (8000, 1.32), (22050, 12.04)])
def test_what_is_sharpened_gains_40_db_a_decade(hz, gain_db):
    wave = torch.cos(2 * math.pi * hz / 44100 * torch.arange(44100, dtype=torch.float64))
    assert 10 * (sharpened(wave).square().mean() / wave.square().mean()).log10() == pytest.approx(gain_db, abs=0.01)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_treble_has_its_share_of_the_loss(share):
    mixture, target, estimate = (noise(3, 500, seed=seed) for seed in range(3))
    loss, parts = predictive_loss(lambda _: estimate, mixture, target, LossArgs(treble_weight=share))
    parts = {name: part.item() for name, part in parts.items()}
    log_mses = log_mse(error=target - estimate, mixture=mixture, tau=TAU)
    assert parts["log_mse_db"] == pytest.approx(log_mses.mean().item())
    error = sharpened(target) - sharpened(estimate)
    assert parts["treble_db"] == pytest.approx(log_mse(error=error, mixture=sharpened(mixture), tau=TAU).mean().item())
    assert loss.item() == pytest.approx((1 - share) * parts["log_mse_db"] + share * parts["treble_db"], rel=1e-5)


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_a_signal_too_short_to_be_sharpened_has_a_finite_loss_and_gradient(n_samples):
    mixture, estimate = noise(1, n_samples, seed=0), noise(1, n_samples, seed=1).requires_grad_()
    loss, _ = predictive_loss(lambda _: estimate, mixture, mixture / 2, LossArgs(treble_weight=0.3))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(estimate.grad).all()


@pytest.mark.parametrize("field, value, remedy", [
    *(("treble_weight", share, "give a share, 0 to 1") for share in (-0.1, 1.1, math.nan)), ("tau", 0, "more than 0"),
])
def test_a_share_that_is_none_and_an_error_that_cannot_count_are_refused(field, value, remedy):
    with pytest.raises(UserError, match=f"LossArgs.{field} = {value}: .*{remedy}"):
        LossArgs(**{field: value})


def whole_loss(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    return predictive_loss(lambda _: estimate, mixture, target, LossArgs())[0]


def test_without_the_treble_the_loss_is_the_log_mse():
    mixture, target = noise(3, 500, seed=0), noise(3, 500, seed=1)
    loss, parts = predictive_loss(lambda mixture: 0.5 * mixture, mixture, target, LossArgs(treble_weight=0))
    assert parts == {"log_mse_db": loss.item()}


@given(st.floats(1e-2, 1e2))
def test_the_loss_does_not_depend_on_the_level_at_which_all_three_were_recorded(a):
    mixture, target, estimate = (noise(2, 500, seed=seed) for seed in range(3))
    assert_close(whole_loss(a * estimate, a * target, a * mixture), whole_loss(estimate, target, mixture))


@pytest.mark.parametrize("target", [torch.zeros(1, 500), noise(1, 500, seed=1)], ids=["silent", "speaking"])
@pytest.mark.parametrize("mixture", [torch.zeros(1, 500), noise(1, 500, seed=0)], ids=["silence", "noise"])
@pytest.mark.parametrize("estimate", [torch.zeros(1, 500), noise(1, 500, seed=2)], ids=["nothing", "something"])
def test_in_silence_too_loss_and_gradient_are_finite(estimate, mixture, target):
    estimate = estimate.clone().requires_grad_()
    loss = whole_loss(estimate, target, mixture)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(estimate.grad).all()
