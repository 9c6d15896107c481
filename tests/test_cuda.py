"""What a GPU would do, on a machine without one: by fake tensors, and by the operations that are asked for."""

from functools import partial

import pytest
import torch
from test_families import SMALL
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import models
import train
from extractor import ddp, sigma
from extractor.optim import make_optimizers
from extractor.parallel import Backward
from extractor.script import Stop

CUDA = torch.device("cuda", 0)
OUTER = torch.ops.aten.bmm.default, torch.ops.aten.mm.default, torch.ops.aten.baddbmm.default


class Asked(TorchDispatchMode):
    """The operations that are asked for, and the shapes of their tensors."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.calls.append((operation, [tuple(x.shape) for x in args if isinstance(x, torch.Tensor)]))
        return operation(*args, **(kwargs or {}))


def batch(n: int, n_samples: int) -> dict:
    mixture = 0.1 * torch.randn(n, n_samples, generator=torch.Generator().manual_seed(0))
    return {"mixture": mixture, "target": mixture / 2, "seed": torch.arange(n), "unread": torch.zeros(n)}


@pytest.fixture
def step():
    """step(name, device): a training step of a small net -> what it came to"""
    def step(name: str, device: torch.device) -> train.StepResult:
        args = train.MainArgs(model=SMALL[name], precision="fp32", batch_size=3)
        family = models.family_of(args.model)
        net, average = (family.net(args.model).to(device) for _ in range(2))
        optimizers = make_optimizers(net, lr=args.lr, muon=args.muon, weight_decay=args.weight_decay)
        backward, loss = Backward(net, device, 1), train.loss_function(args, family, device)
        return train.train_step(args, net, average, optimizers, loss, backward, [batch(3, 2000)], 0, ddp.Team(), Stop())
    return step


@pytest.mark.parametrize("name", SMALL)
def test_a_training_step_has_no_outer_product_for_which_torch_wants_a_c_compiler_on_cuda(name, step):
    with Asked() as asked:
        step(name, torch.device("cpu"))
    products = [shapes for operation, shapes in asked.calls if operation is torch.ops.aten.bmm.default]
    assert not [shapes for shapes in products if shapes[0][2] == 1]
