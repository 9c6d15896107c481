"""What tests of sigma-reparam share: layers and nets that have it, and steps of their training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extractor import sigma


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


def disturb(layer: nn.Module, seed: int = 1):
    with torch.no_grad():
        weight = original(layer)
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))


def net_of_three() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4))
    sigma.apply(net, groups={"0": 3})
    return net


def data(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 5, generator=generator), torch.randn(8, 4, generator=generator)


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameters(), lr=0.05)


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor):
    optimizer.zero_grad()
    F.mse_loss(net(x), y).backward()
    optimizer.step()
    sigma.update(net)
