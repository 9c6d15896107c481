"""Memory for time."""

from torch import nn
from torch.utils.checkpoint import checkpoint


def run(layer: nn.Module, *inputs, anew: bool):
    """layer(*inputs); with `anew` what lies in it is not kept in training, but computed once more in the backward pass.
    Nets draw nothing at random, so that there is no state to take back."""
    if anew and layer.training:
        return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
    return layer(*inputs)
