"""bfloat16 in training: where it pays, and what stays in full precision.

Weights, signals, spectra, residual sums and losses are fp32 always; under autocast the products inside a net are not.
"""

from functools import cache

import torch
from torch import Tensor, nn

PRECISIONS = "auto", "bf16", "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """'auto' is bf16 where the device multiplies it faster than fp32."""
    enabled = precision == "bf16" or precision == "auto" and fast(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say: fp32 then
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def full(x: Tensor) -> torch.autocast:
    """Inside it autocast is off."""
    return torch.autocast(x.device.type, enabled=False)


def at_least_fp32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def lstm(layer: nn.LSTM, x: Tensor) -> Tensor:
    """What the layer puts out. In full precision on a device that has no bf16 for it. [L, B, D] -> [L, B, H]"""
    if not torch.is_autocast_enabled(x.device.type) or rounds_lstms(x.device.type):
        return layer(x)[0]
    with full(x):
        return layer(at_least_fp32(x))[0]


@cache
def rounds_lstms(device: str) -> bool:
    """Whether LSTMs are computed in bf16 there. For CUDA torch's autocast makes it fp16 (AutocastRNN.cpp), to which
    small gradients are zero; on a CPU its kernel needs AVX-512, and fails where there is none."""
    if device != "cpu":
        return False
    layer = nn.LSTM(8, 8, device="meta").to_empty(device="cpu")  # draws nothing
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            layer(torch.zeros(2, 1, 8))
    except RuntimeError:
        return False
    return True
