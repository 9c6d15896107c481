"""sigma-reparam: W is used as gamma / sigma(W) * W."""

import pytest
import torch
from reparametrized import disturb, linear, norms, original, reparam
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from extractor import UserError, sigma

# ---------------------------------------------------------------------------------------------------------------------
# the start


@pytest.mark.parametrize("groups", [1, 3])
def test_gamma_starts_at_the_spectral_norm_of_each_group(groups):
    layer = linear(groups=groups)
    expected = torch.linalg.svdvals(original(layer).detach().reshape(groups, -1, 6))[:, 0]
    assert reparam(layer).gamma.shape == (groups,)
    assert_close(reparam(layer).gamma.detach(), expected, rtol=1e-6, atol=0)


def test_the_weight_starts_as_it_was():
    layer = linear(groups=3)
    torch.manual_seed(0)
    assert torch.equal(layer.weight, nn.Linear(6, 12).weight)


def test_a_convolution_is_the_matrix_of_its_rows():
    torch.manual_seed(0)
    layer = nn.Conv1d(3, 8, kernel_size=5)
    sigma.reparametrize(layer, groups=2)
    disturb(layer)
    sigma.refresh(layer)
    expected = norms(original(layer).reshape(8, 15), groups=2)
    gain = (reparam(layer).gamma.detach() / expected).repeat_interleave(4)[:, None, None]
    assert_close(layer.weight.detach(), gain * original(layer).detach())
    assert_close(norms(layer.weight, groups=2), reparam(layer).gamma.detach())


def test_a_group_is_a_block_of_rows():
    layer = linear(columns=2, rows=4, groups=2, bias=False)
    with torch.no_grad():
        original(layer).copy_(torch.tensor([[3.0, 0], [0, 1], [0, 2], [10, 0]]))  # spectral norms 3 and 10
        reparam(layer).gamma.copy_(torch.tensor([1.0, 5]))
    sigma.refresh(layer)
    assert_close(layer.weight.detach(), torch.tensor([[1.0, 0], [0, 1 / 3], [0, 1], [5, 0]]))


@pytest.mark.parametrize("groups", [5, 0])
def test_groups_that_do_not_divide_the_rows_are_refused(groups):
    with pytest.raises(UserError, match=f"12, 6.*{groups} groups"):
        sigma.SigmaReparam(torch.ones(12, 6), groups)


def test_a_weight_of_zeros_is_refused_as_it_would_never_leave_zero():
    layer = nn.Linear(6, 12)
    nn.init.zeros_(layer.weight[4:8])  # the second of three groups
    with pytest.raises(UserError, match="zero.*leave it out"):
        sigma.reparametrize(layer, groups=3)


def test_a_layer_is_reparametrised_once():
    with pytest.raises(AssertionError, match="once"):
        sigma.reparametrize(linear())


# ---------------------------------------------------------------------------------------------------------------------
# sigma


@pytest.mark.parametrize("groups", [1, 3])
def test_update_is_one_round_of_the_power_iteration(groups):
    layer = linear(groups=groups)
    disturb(layer)
    expected_u, expected_v = [], []
    for w, v in zip(original(layer).detach().chunk(groups), reparam(layer).v.clone(), strict=True):
        u = w @ v / (w @ v).norm()
        expected_u.append(u)
        expected_v.append(w.T @ u / (w.T @ u).norm())
    sigma.update(layer)
    assert_close(reparam(layer).u, torch.stack(expected_u))
    assert_close(reparam(layer).v, torch.stack(expected_v))


def test_sigma_converges_to_the_spectral_norm():
    layer = linear(groups=3)
    disturb(layer)
    w = reparam(layer).matrices(original(layer))
    exact, start = norms(original(layer), groups=3), reparam(layer).sigma(w).detach()
    assert (start < 0.8 * exact).all()
    last = start.abs()
    for _ in range(100):
        sigma.update(layer)
        now = reparam(layer).sigma(w).detach()
        assert (now >= last - 1e-5).all() and (now <= exact + 1e-5).all()  # it comes from below, and never turns back
        last = now
    assert_close(last, exact, rtol=1e-4, atol=0)


def test_refresh_makes_gamma_the_spectral_norm_of_the_weight_at_once():
    layer = linear(groups=3)
    disturb(layer)
    assert not torch.allclose(norms(layer.weight, groups=3), reparam(layer).gamma, rtol=0.05)
    sigma.refresh(layer)
    assert_close(norms(layer.weight, groups=3), reparam(layer).gamma.detach(), rtol=1e-5, atol=0)


def test_refresh_does_not_depend_on_what_u_and_v_were():
    one, other = linear(groups=3), linear(groups=3)
    for layer in (one, other):
        disturb(layer)
    for _ in range(5):
        sigma.update(other)
    sigma.refresh(one)
    sigma.refresh(other)
    assert torch.equal(one.weight, other.weight)


def test_the_output_does_not_see_the_scale_of_the_original():
    layer, x = linear(), torch.ones(2, 6)
    y = layer(x)
    with torch.no_grad():
        original(layer).mul_(3)
    assert_close(layer(x), y)


def test_after_a_huge_step_one_update_leaves_sigma_positive():
    for seed in range(50):
        layer = linear(groups=3)
        with torch.no_grad():
            original(layer).neg_()  # u^T W v = -sigma
        disturb(layer, seed) if seed else None
        sigma.update(layer)
        assert (reparam(layer).sigma(reparam(layer).matrices(original(layer))) > 0).all()


def test_at_gamma_1_it_is_the_spectral_norm_of_torch_forward_and_backward():
    ours, theirs = linear(), nn.Linear(6, 12)
    spectral_norm(theirs)  # one round at every training forward
    with torch.no_grad():
        reparam(ours).gamma.fill_(1)
        reparam(ours).u.copy_(theirs.parametrizations.weight[0]._u)
        reparam(ours).v.copy_(theirs.parametrizations.weight[0]._v)
    for seed in range(5):
        for layer in (ours, theirs):
            layer.zero_grad()
            disturb(layer, seed)
        sigma.update(ours)
        weights = [layer.weight for layer in (ours, theirs)]
        for weight in weights:
            weight.pow(3).sum().backward()
        assert_close(*weights)
        assert_close(original(ours).grad, original(theirs).grad)


# ---------------------------------------------------------------------------------------------------------------------
# apply


class Family(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.in_proj = nn.Linear(4, 6), nn.Linear(6, 6)
        self.head = nn.Sequential(nn.PReLU(), nn.Conv1d(6, 6, 1), nn.Conv2d(6, 6, 3))
        self.lstm, self.norm = nn.LSTM(6, 6), nn.LayerNorm(6)
        self.up = nn.ConvTranspose1d(6, 3, 4)  # its first axis is the input's


def gammas(net: nn.Module) -> dict[str, int]:
    """Where there is sigma-reparam, and how many groups."""
    names = {id(module): name for name, module in net.named_modules()}
    return {names[id(module)]: len(r.gamma) for module, r in sigma.parametrized(net)}


def test_apply_takes_all_linear_and_conv_layers_but_those_to_leave():
    net = Family()
    sigma.apply(net, groups={"in_proj": 3}, leave=["encoder"])
    assert gammas(net) == {"in_proj": 3, "head.1": 1, "head.2": 1}


def test_apply_leaves_all_that_lies_below_a_name():
    net = Family()
    sigma.apply(net, leave=["head"])
    assert gammas(net) == {"encoder": 1, "in_proj": 1}


@pytest.mark.parametrize("kwargs", [{"leave": ["encodre"]}, {"groups": {"qkv": 3}}])
def test_apply_refuses_a_name_that_the_net_does_not_have(kwargs):
    with pytest.raises(AssertionError, match="encodre|qkv"):
        sigma.apply(Family(), **kwargs)
