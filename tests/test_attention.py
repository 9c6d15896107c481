"""extractor/layers.py: that attention is attention in any precision, and how its weights spread."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import RATE
from nets import BANDSPLIT, FULLBAND
from tiny import NET, scalars, tiny_run
from torch.testing import assert_close

import train
from bandsplit import BandSplit
from dptnet import Attention, DPTNet
from extractor import UserError
from extractor.layers import attend, entropy_by_layer


def test_attention_is_the_weighted_mean_of_the_values_in_any_precision():
    q, k, v = torch.randn(3, 2, 5, 7, 4, dtype=torch.float64).unbind()
    expected = torch.softmax(q @ k.mT / 2, -1) @ v
    assert_close(attend(q, k, v), expected, rtol=1e-12, atol=1e-12)
    with torch.autocast("cpu", torch.bfloat16):
        halves = attend(*(x.bfloat16() for x in (q, k, v)))
    assert halves.dtype == torch.float32
    assert_close(halves.double(), expected, rtol=0, atol=0.03)


def attention(dim: int, n_heads: int, query: torch.Tensor, key: torch.Tensor) -> Attention:
    """Queries and keys are `query` and `key` times the input; no biases."""
    module = Attention(dim, n_heads)
    with torch.no_grad():
        module.in_proj.weight[: 2 * dim] = torch.cat([query, key])
    return module


def test_attention_to_one_key_has_entropy_0():
    x = torch.eye(4)[:, None]  # position i is the i-th unit vector, which is its own key and query
    assert entropy_by_layer(attention(4, 1, 1000 * torch.eye(4), torch.eye(4)), x).item() == 0


def test_each_head_attends_by_itself_at_the_root_of_its_width():
    # head 0 sees nothing, so it has entropy 1; head 1, 4 wide, has logit 8 / sqrt(4) at its own key, 0 at the others
    query = torch.zeros(8, 8)
    query[4:, 4:] = 8 * torch.eye(4)
    x = torch.eye(4).repeat(1, 2)[:, None]
    p = torch.tensor([4.0, 0, 0, 0]).softmax(0)
    expected = (1 - (p * p.log()).sum().item() / math.log(4)) / 2
    assert_close(entropy_by_layer(attention(8, 2, query, torch.eye(8)), x).item(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("sigma_reparam", [False, True])
def test_entropy_is_taken_layer_by_layer(sigma_reparam):
    torch.manual_seed(0)
    net = DPTNet(replace(NET, sigma_reparam=sigma_reparam))
    weight = net.layers[1].attention.in_proj
    (weight.parametrizations.weight[0].gamma if sigma_reparam else weight.weight).data.mul_(1e-4)
    inside, across = entropy_by_layer(net, torch.randn(2, 1000))
    assert across.item() == pytest.approx(1, abs=1e-6)
    assert 0.5 < inside < 0.999


def test_a_look_at_the_attention_leaves_nothing_behind():
    torch.manual_seed(0)
    net, mixture = DPTNet(NET), torch.randn(2, 1000)
    before, state = net(mixture), torch.get_rng_state()
    assert not entropy_by_layer(net, mixture).requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(net(mixture), before)
    assert all(p.grad is None for p in net.parameters())


def test_every_path_of_a_band_split_net_is_looked_at():
    net = BandSplit(replace(BANDSPLIT, mixer="attention"))
    for path in net.paths:
        path.attention.in_proj.weight.data.zero_()
    assert_close(entropy_by_layer(net, torch.randn(2, 1000)), torch.ones(4))


def test_training_draws_the_entropy_of_every_layer_on_request(recordings, tmp_path):
    args = replace(tiny_run(recordings, tmp_path), entropy=True)
    train.main(args)
    curves = scalars(args.folder)
    assert {name for name in curves if name.startswith("entropy/")} == {"entropy/layer_0", "entropy/layer_1"}
    assert all(len(curves[f"entropy/layer_{i}"]) == 2 and 0 < min(curves[f"entropy/layer_{i}"]) < 1 for i in (0, 1))


def test_entropy_of_a_net_without_attention_is_refused(recordings, tmp_path):
    with pytest.raises(UserError, match="MainArgs.entropy: a fullband net has no attention"):
        train.main(replace(tiny_run(recordings, tmp_path), entropy=True, model=replace(FULLBAND, sample_rate=RATE)))
