"""sigma-reparam (Zhai et al. 2023, arXiv 2303.06296): a weight matrix W is used as gamma / sigma(W) * W.

G groups of rows, such as a projection's queries, keys and values · M rows in a group · N columns, in * kernel

sigma(W) is W's largest singular value, gamma is learned, one a group. So gamma alone says how much a layer can amplify,
W only in which direction, and attention's logits cannot grow faster than gamma does. sigma is u^T W v with u and v from
a power iteration, which goes on by one round a step.

    sigma.apply(net)      when its weights have their first values; it computes what it did before
    sigma.update(net)     once after every optimizer.step()
    sigma.refresh(net)    where the weights came by another way, as an average does, before they are used or saved
    sigma.fold(net)       for inference: plain weights under their plain names

All but `apply` do nothing to a net without it. A forward pass changes no buffer, so it can be recomputed, repeated and
compiled. With several processes every one calls `update` and comes to the same u and v.
"""

from collections.abc import Collection, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from extractor import UserError, precision


class SigmaReparam(nn.Module):
    """A parametrisation of a weight. [G * M, ...] -> [G * M, ...], its N columns being all axes but the first"""

    def __init__(self, weight: Tensor, groups: int = 1):
        super().__init__()
        if weight.ndim < 2 or groups < 1 or len(weight) % groups:
            raise UserError(f"sigma-reparam of a {tuple(weight.shape)} weight: {groups} groups do not divide its rows")
        rows, columns = len(weight) // groups, weight[0].numel()
        self.register_buffer("u", weight.new_zeros(groups, rows))
        self.register_buffer("v", weight.new_zeros(groups, columns))
        self.gamma = nn.Parameter(weight.new_zeros(groups))
        self.refresh(weight)
        with torch.no_grad():
            self.gamma.copy_(self.sigma(self.matrices(weight)))  # not the SVD's: gamma / sigma is to be 1, exactly
        if not self.gamma.gt(0).all():
            zero = f"sigma-reparam of a {tuple(weight.shape)} weight that is zero, at least in a group"
            raise UserError(f"{zero}: it would stay so, as it has no direction; leave it out, or start it from noise")

    def forward(self, weight: Tensor) -> Tensor:
        with precision.full(weight):  # eight bits of sigma would scale all weights with their error
            w = self.matrices(weight)
            w = w * (self.gamma.to(w) / self.sigma(w))[:, None, None]
        return w.reshape(weight.shape).to(weight.dtype)

    def matrices(self, weight: Tensor) -> Tensor:
        """[G * M, ...] -> [G, M, N], fp32 or finer"""
        return precision.at_least_fp32(weight).reshape(len(self.gamma), -1, weight[0].numel())

    def sigma(self, w: Tensor) -> Tensor:
        """u^T W v, whose gradient takes u and v as constants. [G, M, N] -> [G]"""
        return (w * (self.u.to(w)[:, :, None] * self.v.to(w)[:, None])).sum((1, 2))  # a gradient without a product

    @torch.no_grad()
    def update(self, weight: Tensor):
        """One round of the power iteration. It ends with v, so that sigma = |W^T u| > 0, however far W has moved."""
        with precision.full(weight):
            w = self.matrices(weight)
            u = F.normalize(torch.einsum("gmn,gn->gm", w, self.v.to(w)), dim=1)
            v = F.normalize(torch.einsum("gmn,gm->gn", w, u), dim=1)
        self.u.copy_(u)
        self.v.copy_(v)

    @torch.no_grad()
    def refresh(self, weight: Tensor):
        """The exact singular vectors."""
        u, _, vh = torch.linalg.svd(self.matrices(weight), full_matrices=False)
        self.u.copy_(u[:, :, 0])
        self.v.copy_(vh[:, 0])


def reparametrize(module: nn.Module, groups: int = 1):
    """module.weight, of a Linear or a convolution, by its groups of rows. It keeps its value."""
    assert not parametrize.is_parametrized(module, "weight"), "once is enough"
    parametrize.register_parametrization(module, "weight", SigmaReparam(module.weight.detach(), groups))


def apply(net: nn.Module, *, groups: Mapping[str, int] | None = None, leave: Collection[str] = ()):
    """All Linear and Conv layers of the net but those in `leave` and below. Both say names of modules, such as in_proj,
    wherever they are; a layer that `groups` does not name is one group."""
    groups, unknown = groups or {}, {*(groups or {}), *leave}
    for path, module in list(net.named_modules()):
        names = path.split(".")
        unknown -= set(names)
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and not set(names) & set(leave):
            reparametrize(module, groups.get(names[-1], 1))
    assert not unknown, f"the net has no {unknown}"


def parametrized(net: nn.Module) -> Iterator[tuple[nn.Module, SigmaReparam]]:
    """The layers with sigma-reparam, and theirs."""
    for module in list(net.modules()):
        reparam = module.parametrizations.weight[0] if parametrize.is_parametrized(module, "weight") else None
        if isinstance(reparam, SigmaReparam):
            yield module, reparam


def update(net: nn.Module):
    """One round of the power iteration for every layer: once after every step of the optimizer."""
    for module, reparam in parametrized(net):
        reparam.update(module.parametrizations.weight.original)


def refresh(net: nn.Module):
    """u and v by SVD: after the weights were averaged, since no average of singular vectors is a singular vector."""
    for module, reparam in parametrized(net):
        reparam.refresh(module.parametrizations.weight.original)


def fold(net: nn.Module) -> nn.Module:
    """Replace the reparametrised weights of a net by plain ones, in place. Copies of the net stay as they are."""
    for module, _ in parametrized(net):
        weight = nn.Parameter(module.weight.detach(), module.parametrizations.weight.original.requires_grad)
        # not torch's remove_parametrizations: it takes `weight` from the class, which a deepcopy of the net shares
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
        module.weight = weight
    return net
