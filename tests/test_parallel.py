"""The gradient of a batch from parts of it on threads."""

import re
import shutil
import threading
from copy import deepcopy

import pytest
import torch
from nets import noise
from torch import nn
from torch.testing import assert_close

import flow
from bench import parts
from extractor.parallel import Backward
from fullband import FullBandArgs
from losses import LossArgs

CPU = torch.device("cpu")


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))
        self.unused = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.w * x


def small_flow() -> flow.Flow:
    predictor = FullBandArgs(8000, n_fft=64, hop=16, n_bands=12, width=16, hidden=8, n_layers=2)
    return flow.Flow(flow.FlowArgs(predictor, n_bands=10, n_fine=5, width=16, hidden=8, n_layers=2))


def mean(net, mixture, target, seeds):
    value = net(mixture).mean()
    return value, {"mean": value.detach()}


def batch(mixture, target=None) -> dict:
    target = torch.zeros_like(mixture) if target is None else target
    return {"mixture": mixture, "target": target, "seed": torch.arange(len(mixture))}


def step(backward, loss, mixture, target=None):
    return backward(loss, [batch(mixture, target)], len(mixture))


@pytest.mark.parametrize("n_threads, batches, n_items, expected", [
    (2, [[1, 2, 6]], 3, 3),        # parts of unequal size: {1, 2} has mean 1.5 and weight 2/3, {6} has weight 1/3
    (4, [[1, 3]], 2, 2),           # fewer items than threads
    (2, [[1, 2], [6]], 4, 9 / 4),  # are added up; the fourth item is another process's
])
def test_every_item_of_a_step_counts_the_same(n_threads, batches, n_items, expected, threads):
    threads(n_threads)
    net = Scale()
    backward = Backward(net, CPU, batch_size=4)
    for _ in range(2):  # nothing is left of an earlier step
        pieces = (batch(torch.tensor(items)[:, None].float()) for items in batches)
        loss, named = backward(mean, pieces, n_items)
        assert loss.item() == pytest.approx(expected) and not loss.requires_grad
        assert net.w.grad.item() == pytest.approx(expected) == named["mean"] and net.unused.grad is None


def test_the_parts_run_at_the_same_time_each_on_its_share_of_the_threads(threads):
    before = torch.get_num_threads()
    in_this_thread, meeting, seen = torch.get_num_threads, threading.Barrier(2), []
    threads(5)

    def loss(net, mixture, target, seeds):
        meeting.wait(timeout=60)
        seen.append(in_this_thread())
        return mean(net, mixture, target, seeds)

    backward = Backward(Scale(), CPU, batch_size=2)
    for _ in range(2):
        step(backward, loss, torch.ones(2, 1))
    assert seen == 4 * [2] and in_this_thread() == before


def gradient(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("n_threads, sizes", [(1, [2, 4]), (3, [6]), (2, [1, 1, 4])])
def test_what_is_drawn_is_an_items_own_whatever_the_threads_and_the_batches(n_threads, sizes, threads):
    """A batch in one piece, one thread, is the yardstick of any other way; another seed is another loss."""
    torch.manual_seed(0)
    net, whole = small_flow().train(), batch(noise(6, 900), noise(6, 900) / 2)

    def loss(*given):
        return flow.loss(*given[:3], LossArgs(), given[3])

    threads(1)
    expected, named = Backward(net, CPU, 6)(loss, [whole], 6)
    gradients = gradient(net)
    threads(n_threads)
    pieces = zip(*(x.split(sizes) for x in whole.values()), strict=True)
    found, of_parts = Backward(net, CPU, max(sizes))(loss, [dict(zip(whole, x, strict=True)) for x in pieces], 6)
    assert_close(found, expected)
    assert_close(of_parts, named, rtol=1e-5, atol=0)
    assert_close(gradient(net), gradients, rtol=1e-3, atol=1e-5 * max(g.abs().max().item() for g in gradients.values()))
    other, _ = Backward(net, CPU, 6)(loss, [whole | {"seed": torch.arange(6) + 6}], 6)
    assert abs(other - expected) > 1e-3


def test_what_fails_in_a_part_fails_the_step(threads):
    threads(2)

    def loss(net, mixture, target, seeds):
        if mixture.sum() > 1:
            raise ValueError("the second part")
        return mean(net, mixture, target, seeds)

    with pytest.raises(ValueError, match="the second part"):
        step(Backward(Scale(), CPU, batch_size=2), loss, torch.tensor([[1.0], [2.0]]))


def test_the_bench_prints_a_row_a_preset(capsys):
    parts.main(parts.BenchArgs(("fullband-light",), batch=2, repeats=1))
    (row,) = re.findall(r"^\| `fullband-light` \|(.*)\|$", capsys.readouterr().out, re.M)
    one, operations, batch, ratio = map(float, row.split("|"))
    assert min(one, operations, batch) > 0 and ratio == pytest.approx(operations / batch, rel=0.1)


class Stack(nn.Module):
    """Two layers that are alike, and what lies around them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.GELU()) for _ in range(2))

    def forward(self, x):
        return x + self.layers[1](x + self.layers[0](x))


@pytest.mark.slow(20)
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_net_has_the_gradient_of_the_plain_one(threads):
    threads(2)
    plain = Stack()
    compiled, mixture = deepcopy(plain), torch.randn(5, 4)
    expected, _ = step(Backward(plain, CPU, batch_size=5), mean, mixture)
    loss, _ = step(Backward(compiled, CPU, batch_size=5, compiled=True), mean, mixture)
    assert_close(loss, expected)
    assert_close(gradient(compiled), gradient(plain))
