"""sigma-reparam: W is used as gamma / sigma(W) * W. Where nets have it, and how it starts, is in test_contract.py."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close

from extractor import UserError, sigma


def linear(columns: int = 6, rows: int = 12, groups: int = 1, **kwargs) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(columns, rows, **kwargs)
    sigma.reparametrize(layer, groups)
    return layer


def reparam(layer: nn.Module) -> sigma.SigmaReparam:
    return layer.parametrizations.weight[0]


def original(layer: nn.Module) -> nn.Parameter:
    return layer.parametrizations.weight.original


def norms(weight: Tensor, groups: int = 1) -> Tensor:
    """Largest singular value of each group of rows, by another road: the root of the largest eigenvalue of W W^T."""
    w = weight.detach().double().reshape(groups, len(weight) // groups, -1)
    return torch.linalg.eigvalsh(w @ w.mT)[:, -1].sqrt().float()


@torch.no_grad()
def disturb(layer: nn.Module, seed: int = 1):
    weight = original(layer)
    weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))


def disturbed(**kwargs) -> nn.Linear:
    """A layer whose u and v are not the singular vectors of its weight."""
    disturb(layer := linear(**kwargs))
    return layer


def net_of_three() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4))
    sigma.apply(net, groups={"0": 3})
    return net


def data(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 5, generator=generator), torch.randn(8, 4, generator=generator)


def trained(net: nn.Module, steps: range, optimizer: torch.optim.Optimizer | None = None) -> nn.Module:
    optimizer = optimizer or optimizer_of(net)
    for step in steps:
        x, y = data(step)
        optimizer.zero_grad()
        F.mse_loss(net(x), y).backward()
        optimizer.step()
        sigma.update(net)
    return net


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=0.05)


def test_a_convolution_is_the_matrix_of_its_rows_and_a_group_a_block_of_them():
    torch.manual_seed(0)
    layer = nn.Conv1d(3, 8, kernel_size=5)
    sigma.reparametrize(layer, groups=2)
    disturb(layer)
    sigma.refresh(layer)
    expected = norms(original(layer).reshape(8, 15), groups=2)
    gain = (reparam(layer).gamma.detach() / expected).repeat_interleave(4)[:, None, None]
    assert_close(layer.weight.detach(), gain * original(layer).detach())
    assert_close(norms(layer.weight, groups=2), reparam(layer).gamma.detach())


@pytest.mark.parametrize("groups", [5, 0])
def test_groups_that_do_not_divide_the_rows_are_refused(groups):
    with pytest.raises(UserError, match=f"12, 6.*{groups} groups"):
        sigma.SigmaReparam(torch.ones(12, 6), groups)


def test_a_weight_of_zeros_is_refused_as_it_would_never_leave_zero():
    layer = nn.Linear(6, 12)
    nn.init.zeros_(layer.weight[4:8])  # the second of three groups
    with pytest.raises(UserError, match="zero.*leave it out"):
        sigma.reparametrize(layer, groups=3)


def test_sigma_converges_to_the_spectral_norm():
    layer = disturbed(groups=3)
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


def test_the_gradients_are_those_of_gamma_w_over_u_w_v_with_u_and_v_constant():
    layer = disturbed(groups=2, dtype=torch.float64)
    r = reparam(layer)
    g = torch.randn(12, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))  # of the loss by the weight
    (layer.weight * g).sum().backward()
    for i, rows in enumerate((slice(0, 6), slice(6, 12))):
        w, gamma, u, v = original(layer).detach()[rows], r.gamma[i].item(), r.u[i], r.v[i]
        s = u @ w @ v
        assert_close(r.gamma.grad[i], (g[rows] * w).sum() / s)
        expected = gamma / s * (g[rows] - (g[rows] * w).sum() / s * torch.outer(u, v))
        assert_close(original(layer).grad[rows], expected)
        # a longer W is the same weight, so no gradient points along W
        assert abs((original(layer).grad[rows] * w).sum()) < 1e-12 * original(layer).grad.norm() * w.norm()


def test_a_compiled_net_is_one_graph_and_sees_every_update():
    net, (x, _) = net_of_three(), data(0)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    first = compiled(x)
    assert_close(first, net(x))
    for layer in net[::2]:
        disturb(layer)
    sigma.update(net)
    assert_close(compiled(x), net(x))
    assert not torch.allclose(net(x), first, atol=0.01)


def test_under_autocast_weight_and_update_are_still_those_of_fp32():
    one, other, x = disturbed(groups=3), disturbed(groups=3), torch.randn(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        weight, y = other.weight, other(x)
        sigma.update(other)
    assert weight.dtype == torch.float32 and torch.equal(weight, one.weight)
    assert y.dtype == torch.bfloat16  # the product itself is autocast's
    weight.sum().backward()
    assert reparam(other).gamma.grad.dtype == torch.float32
    sigma.update(one)
    assert torch.equal(reparam(one).u, reparam(other).u) and torch.equal(reparam(one).v, reparam(other).v)


def test_stopped_after_three_steps_and_resumed_is_the_same_as_never_stopped():
    straight = trained(net_of_three(), range(6))
    net = net_of_three()
    optimizer = optimizer_of(net)
    trained(net, range(3), optimizer)
    saved = deepcopy([net.state_dict(), optimizer.state_dict()])
    fresh = net_of_three()
    optimizer = optimizer_of(fresh)
    fresh.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    trained(fresh, range(3, 6), optimizer)
    assert_close(fresh.state_dict(), straight.state_dict(), rtol=0, atol=0)


def test_a_folded_copy_is_a_plain_net_that_computes_the_same_and_the_net_goes_its_own_way():
    net = trained(net_of_three(), range(3))
    x, y = data(0)[0], net(data(0)[0])
    folded = sigma.fold(deepcopy(net))
    assert all(type(layer) is nn.Linear for layer in folded[::2])
    plain = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4))
    plain.load_state_dict(folded.state_dict())
    assert torch.equal(folded(x), y) and torch.equal(plain(x), y) and torch.equal(net(x), y)
    trained(net, range(3, 4))
    assert not torch.equal(net(x), y) and torch.equal(folded(x), y)


def test_a_folded_net_keeps_what_was_frozen():
    net = sigma.fold(net_of_three().requires_grad_(False))
    assert not any(p.requires_grad for p in net.parameters())
    assert all(p.requires_grad for p in sigma.fold(net_of_three()).parameters())


def test_a_plain_net_is_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 9), spectral_norm(nn.Linear(9, 4)))
    before = {name: (value.clone(), value._version) for name, value in net.state_dict(keep_vars=True).items()}
    sigma.update(net)
    sigma.refresh(net)
    assert sigma.fold(net) is net
    after = net.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[n], value) and after[n]._version == v for n, (value, v) in before.items())
