"""How good an estimate is, in dB. Everything is [..., T] -> [...], in fp32, finite for silence."""

import torch
from torch import Tensor

EPS = 1e-10  # against 0/0; -100 dB of a signal of unit energy


def energy(x: Tensor) -> Tensor:
    return x.float().square().sum(-1)


def decibel(ratio: Tensor) -> Tensor:
    return 10 * torch.log10(ratio)


def si_sdr(*, estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of Le Roux et al. (2019), means removed. It says nothing of a silent
    reference: there it is about -100 dB; use `attenuation`."""
    estimate, reference = (x.float() - x.float().mean(-1, keepdim=True) for x in (estimate, reference))
    scale = (estimate * reference).sum(-1, keepdim=True) / (energy(reference)[..., None] + EPS)
    target = scale * reference
    return decibel(energy(target) / (energy(estimate - target) + EPS) + EPS)  # a silent estimate: -100 dB, not 0


def si_sdri(*, estimate: Tensor, mixture: Tensor, reference: Tensor) -> Tensor:
    """What the extraction added: SI-SDR of the estimate minus SI-SDR of the untouched mixture."""
    return si_sdr(estimate=estimate, reference=reference) - si_sdr(estimate=mixture, reference=reference)


def attenuation(*, estimate: Tensor, mixture: Tensor) -> Tensor:
    """Level of the estimate over that of the mixture: what is left where the target is absent; lower is better."""
    return decibel((energy(estimate) + EPS) / (energy(mixture) + EPS))
