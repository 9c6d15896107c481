"""sigma-reparam while a net is trained, copied, averaged, saved and folded."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from reparametrized import data, disturb, linear, net_of_three, norms, optimizer_of, original, reparam, step
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from extractor import sigma
from extractor.optim import decay_groups, update_average

# ---------------------------------------------------------------------------------------------------------------------
# gradients


def test_the_gradients_are_those_of_gamma_w_over_u_w_v_with_u_and_v_constant():
    layer = linear(groups=2, dtype=torch.float64)
    disturb(layer)
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


def test_recomputing_the_forward_pass_leaves_the_gradients_as_they_are():
    plain, recomputed = net_of_three().train(), net_of_three().train()
    for seed, net in ((3, plain), (3, recomputed)):
        for layer in net[::2]:
            disturb(layer, seed)
    x, y = data(0)
    F.mse_loss(plain(x), y).backward()
    F.mse_loss(checkpoint(recomputed, x, use_reentrant=False), y).backward()
    for (name, a), b in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad) and a.grad.any(), name


def test_accumulated_gradients_are_those_of_the_whole_batch():
    whole, halves, (x, y) = net_of_three().train(), net_of_three().train(), data(0)
    for net in (whole, halves):
        for layer in net[::2]:
            disturb(layer)
    F.mse_loss(whole(x), y).backward()
    for half in (slice(0, 4), slice(4, 8)):
        (F.mse_loss(halves(x[half]), y[half]) / 2).backward()
    for (name, a), b in zip(whole.named_parameters(), halves.named_parameters(), strict=True):
        assert_close(a.grad, b[1].grad, msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_pass_changes_no_buffer(training):
    net = net_of_three().train(training)
    for layer in net[::2]:
        disturb(layer)
    before = {name: (b.clone(), b._version) for name, b in net.named_buffers()}
    net(data(0)[0]).sum().backward()
    assert len(before) == 6
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name][0]) and buffer._version == before[name][1], name


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


def test_no_gradient_flows_to_u_and_v():
    layer = linear()
    sigma.update(layer)
    layer.weight.sum().backward()
    assert [name for name, _ in layer.named_parameters()] == [
        "bias", "parametrizations.weight.original", "parametrizations.weight.0.gamma"
    ]
    assert not any(b.requires_grad or b.grad_fn for b in layer.buffers())


def test_weight_decay_leaves_gamma_alone():
    net = net_of_three()
    decayed = decay_groups(net, 0.1)[0]["params"]
    assert {id(p) for p in decayed} == {id(original(layer)) for layer in net[::2]}


# ---------------------------------------------------------------------------------------------------------------------
# precision


def test_under_autocast_the_weight_is_still_that_of_fp32():
    layer = linear(groups=3)
    disturb(layer)
    plain, x = layer.weight.detach().clone(), torch.randn(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        weight, y = layer.weight, layer(x)
    assert weight.dtype == torch.float32 and torch.equal(weight, plain)
    assert y.dtype == torch.bfloat16  # the product itself is autocast's
    weight.sum().backward()
    assert reparam(layer).gamma.grad.dtype == torch.float32


def test_under_autocast_update_is_still_that_of_fp32():
    one, other = linear(groups=3), linear(groups=3)
    for layer in (one, other):
        disturb(layer)
    sigma.update(one)
    with torch.autocast("cpu", torch.bfloat16):
        sigma.update(other)
    assert torch.equal(reparam(one).u, reparam(other).u) and torch.equal(reparam(one).v, reparam(other).v)


def test_a_bfloat16_net_computes_sigma_in_fp32_and_rounds_once():
    layer = linear(groups=3).to(torch.bfloat16)
    disturb(layer)
    r = reparam(layer)
    w = original(layer).detach().float().reshape(3, 4, 6)
    s = (r.u.float()[:, :, None] * w * r.v.float()[:, None]).sum((1, 2))
    assert layer.weight.dtype == torch.bfloat16
    assert torch.equal(layer.weight, (w * (r.gamma.float() / s)[:, None, None]).reshape(12, 6).to(torch.bfloat16))


# ---------------------------------------------------------------------------------------------------------------------
# copies, averages, checkpoints


def trained(net: nn.Module, steps: range) -> nn.Module:
    optimizer = optimizer_of(net)
    for i in steps:
        step(net, optimizer, *data(i))
    return net


def test_a_state_dict_brings_everything_back():
    net, fresh = trained(net_of_three(), range(3)), net_of_three()
    assert not torch.equal(fresh(data(0)[0]), net(data(0)[0]))
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(data(0)[0]), net(data(0)[0]))
    sigma.update(net)
    sigma.update(fresh)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), fresh.buffers(), strict=True))


def test_stopped_after_three_steps_and_resumed_is_the_same_as_never_stopped():
    straight = trained(net_of_three(), range(6))
    net = net_of_three()
    optimizer = optimizer_of(net)
    for i in range(3):
        step(net, optimizer, *data(i))
    saved = deepcopy([net.state_dict(), optimizer.state_dict()])
    fresh = net_of_three()
    optimizer = optimizer_of(fresh)
    fresh.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    for i in range(3, 6):
        step(fresh, optimizer, *data(i))
    expected = straight.state_dict()
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_copy_goes_its_own_way():
    net = net_of_three()
    copy = deepcopy(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trained(copy, range(2))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) and not torch.equal(value, copy.state_dict()[name]), name


def test_a_refreshed_average_has_the_average_gamma_as_its_spectral_norm():
    net = net_of_three()
    average, optimizer = deepcopy(net).requires_grad_(False), optimizer_of(net)
    for i in range(20):
        step(net, optimizer, *data(i))
        update_average(average, net, keep=0.9, step=i)
    stale = average(data(0)[0])
    sigma.refresh(average)
    for layer, groups in zip(average[::2], (3, 1, 1), strict=True):
        gain = reparam(layer).gamma / norms(original(layer), groups)
        expected = original(layer) * gain.repeat_interleave(len(layer.weight) // groups)[:, None]
        assert_close(layer.weight, expected)
    assert not torch.allclose(average(data(0)[0]), stale, rtol=1e-3)


def test_fold_leaves_a_plain_net_that_computes_the_same():
    net = trained(net_of_three(), range(3))
    x, y = data(0)[0], net(data(0)[0])
    plain = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4))
    assert sigma.fold(net) is net
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert all(type(layer) is nn.Linear for layer in net[::2])
    assert_close(net(x), y, rtol=1e-6, atol=1e-7)
    plain.load_state_dict(net.state_dict())
    assert_close(plain(x), y, rtol=1e-6, atol=1e-7)


def test_folding_a_copy_leaves_the_net_as_it_was():
    net = trained(net_of_three(), range(3))
    y, names = net(data(0)[0]), net.state_dict().keys()
    folded = sigma.fold(deepcopy(net))
    assert net.state_dict().keys() == names
    assert torch.equal(net(data(0)[0]), y) and torch.equal(folded(data(0)[0]), y)
    trained(net, range(3, 4))
    assert not torch.equal(net(data(0)[0]), y) and torch.equal(folded(data(0)[0]), y)


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
