"""What a GPU would do, on a machine without one: by the operations that are asked for, and by fake tensors."""

import pytest
import torch
from test_families import SMALL
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import flow
import models
import train
from extractor import ddp
from extractor.optim import make_optimizers
from extractor.parallel import Backward
from extractor.script import Stop

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


class Products(TorchDispatchMode):
    """The shapes of the factors of batched products."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten.bmm.default:
            self.shapes.append([tuple(x.shape) for x in args])
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", SMALL)
def test_a_training_step_has_no_outer_product_for_which_torch_wants_a_c_compiler_on_cuda(name):
    args = train.MainArgs(model=SMALL[name], batch_size=3)
    family = models.family_of(args.model)
    net, average = (family.net(args.model) for _ in range(2))
    optimizers = make_optimizers(net, lr=args.lr, muon=args.muon, weight_decay=args.weight_decay)
    backward, loss = Backward(net, CPU, 1), train.loss_function(args, family, CPU)
    mixture = torch.randn(3, 2000)
    batch = {"mixture": mixture, "target": mixture / 2, "seed": torch.arange(3), "unread": torch.zeros(3)}
    with Products() as products:
        train.train_step(args, net, average, optimizers, loss, backward, [batch], 0, ddp.Team(), Stop())
    assert not [shapes for shapes in products.shapes if shapes[0][2] == 1]


def on(device: torch.device, net: nn.Module) -> nn.Module:
    """The net with fake weights there."""
    for module in list(net.modules()):
        for key, p in list(module.named_parameters(recurse=False)):
            setattr(module, key, nn.Parameter(torch.empty(p.shape, device=device), p.requires_grad))
        for key, b in list(module.named_buffers(recurse=False)):
            setattr(module, key, torch.empty(b.shape, dtype=b.dtype, device=device))
    return net


@pytest.mark.parametrize("name", SMALL)
def test_forward_and_loss_stay_on_the_gpu_and_never_wait_for_it(name, monkeypatch):
    """Of fake tensors: one on another device, or a number that the CPU reads, is an error."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))  # bf16 wants a real one
    monkeypatch.setattr(flow, "drawn", lambda seeds, n, device: (
        torch.rand(1, len(seeds), device=device), torch.randn(len(seeds), n, device=device)))
    args = train.MainArgs(model=SMALL[name])
    family = models.family_of(args.model)
    net = family.net(args.model)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.backends.cudnn.flags(enabled=False):
        net = on(CUDA, net)
        mixture = torch.randn(3, 2000, device=CUDA)
        loss, parts = train.loss_function(args, family, CUDA)(net, mixture, mixture / 2, torch.arange(3))
        estimate = family.extract(net.eval(), mixture)
    assert {x.device for x in (loss, estimate, *parts.values())} == {CUDA} and estimate.shape == mixture.shape
