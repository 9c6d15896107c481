"""How weights move."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tiny import NET
from torch import nn

from bandsplit import PRESETS as BAND_SPLIT
from bandsplit import BandSplit
from dptnet import DPTNet
from extractor import UserError, precision
from extractor.optim import Muon, decay_groups, freeze, learning_rate, make_optimizers, update_average


@pytest.mark.parametrize("warmup, steps, warm", [(10, 110, 10), (100, 50, 10)])
def test_the_learning_rate_rises_in_a_line_over_a_fifth_of_the_steps_at_most_and_falls_in_half_a_cosine(
    warmup, steps, warm
):
    rates = [learning_rate(step, peak=1.0, warmup=warmup, steps=steps) for step in range(steps + 1)]
    assert [rates[0], rates[4], rates[warm - 1]] == pytest.approx([0.1, 0.5, 1.0])
    assert rates[(warm + steps) // 2] == pytest.approx(0.01 + 0.99 / 2)  # half way down
    assert rates[steps] == pytest.approx(0.01)


def test_the_average_keeps_a_tenth_of_the_first_weights_and_later_what_it_is_told():
    net, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    average.weight.data.fill_(0.0)
    update_average(average, net, 0.75, step=0)
    assert average.weight.item() == pytest.approx(0.9)
    update_average(average, net, 0.75, step=10**6)
    assert average.weight.item() == pytest.approx(0.75 * 0.9 + 0.25)


def test_norms_biases_and_the_factors_of_sigma_reparam_do_not_decay():
    decayed, free = decay_groups(DPTNet(replace(NET, sigma_reparam=True)), 0.5)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in free["params"]} == {1}
    net = BandSplit(replace(BAND_SPLIT["tiny"], width=8, hidden=8))  # whose bands have a bias each, in one tensor
    found = {id(p) for p in decay_groups(net, 0.5)[1]["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in found}
    assert names == {name for name, p in net.named_parameters() if "bias" in name or "norm" in name}


class Mixed(nn.Module):
    """A parameter of each kind: matrices at an end and inside, one of its name; a kernel, a bias, one not trained."""

    muon_excluded = ("enter",)

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(2, 3, bias=False)
        self.matrix, self.kernel = nn.Linear(3, 2, bias=False), nn.Conv1d(2, 2, 3)
        self.inner = nn.ModuleDict({"enter": nn.Linear(2, 2, bias=False)})
        self.frozen = nn.Linear(2, 2, bias=False).requires_grad_(False)


def test_every_trained_parameter_has_one_optimizer_and_inner_matrices_have_muon():
    net = Mixed()
    adamw, muon = make_optimizers(net, lr=5e-4, muon=14.0, weight_decay=0.5)
    groups = [(g["weight_decay"], [id(p) for p in g["params"]]) for o in (adamw, muon) for g in o.param_groups]
    weights = (net.enter.weight, net.matrix.weight, net.inner["enter"].weight, net.kernel.weight, net.kernel.bias)
    end, matrix, inside, kernel, bias = map(id, weights)
    assert groups == [(0.5, [end, kernel]), (0.0, [bias]), (0.5, [matrix, inside])]
    (adamw,) = make_optimizers(net, lr=5e-4, muon=0, weight_decay=0.1)
    assert [[id(p) for p in g["params"]] for g in adamw.param_groups] == [[end, matrix, kernel, inside], [bias]]


SHAPES = (6, 9), (9, 6), (6, 9), (5, 5), (40, 3)  # two of them alike


def weights_after(optimizer: type, n_steps: int, saved: dict | None = None, **settings) -> tuple[list, dict]:
    """Matrices that noise has moved, from step 3 on where a state is given; and the optimizer's state then."""
    generator = torch.Generator().manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    made = optimizer(matrices, lr=0.1, weight_decay=0.2, momentum=0.9, **settings)
    if saved:
        made.load_state_dict(deepcopy(saved))
    for step in range(n_steps):
        made.param_groups[0]["lr"] = 0.1 / (1 + step)
        for p in matrices:
            p.grad = torch.randn(p.shape, generator=generator)
        made.step()
    return [p.detach() for p in matrices], made.state_dict()


@pytest.mark.parametrize("fast", [False, True])
def test_muon_is_that_of_torch(fast, monkeypatch):
    monkeypatch.setattr(precision, "fast", lambda device: fast)
    first, _ = weights_after(Muon, 0)
    ours, _ = weights_after(Muon, 4)
    theirs, saved = weights_after(torch.optim.Muon, 4, adjust_lr_fn="original")
    for a, b, start in zip(ours, theirs, first, strict=True):
        assert (a - b).norm() < 0.05 * (b - start).norm()  # bfloat16 is worth 0.03
    ours, _ = weights_after(Muon, 2, saved)  # and it goes on from a state of torch's
    theirs, _ = weights_after(torch.optim.Muon, 2, saved)
    for a, b, start in zip(ours, theirs, first, strict=True):
        assert (a - b).norm() < 0.05 * (b - start).norm()


def test_muon_leaves_what_has_no_gradient_and_does_not_fail_on_none_at_all():
    still, zero = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 3))
    zero.grad = torch.zeros(2, 3)
    Muon([still, zero], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(still, torch.ones(2, 3)) and torch.equal(zero, torch.full((2, 3), 0.95))


def trained(net: nn.Module) -> set[str]:
    return {name for name, p in net.named_parameters() if p.requires_grad}


def test_parts_are_held_by_name_with_all_below_them():
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(11)))
    freeze(net, ["1", "2.bias"])
    everything = {f"{i}.{kind}" for i in range(11) for kind in ("weight", "bias")}
    assert trained(net) == everything - {"1.weight", "1.bias", "2.bias"}  # and not 10's


def test_parts_that_are_not_there_and_all_of_a_net_are_not_held():
    with pytest.raises(UserError, match=r"MainArgs.freeze: the net has no 'encodr'; give parts of enter, matrix, kern"):
        freeze(Mixed(), ["encodr"])
    with pytest.raises(UserError, match="MainArgs.freeze = enter, matrix, kernel, inner: nothing is left to train"):
        freeze(Mixed(), ["enter", "matrix", "kernel", "inner"])
