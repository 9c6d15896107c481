"""What the DPTNet family promises. What every net promises is in test_contract.py; that it computes
what others compute is in test_dptnet_parity.py."""

from dataclasses import replace

import pytest
import torch
from nets import noise
from torch import nn
from torch.testing import assert_close

from dptnet import Attention, DPTNet, DPTNetArgs, overlap_add, segment

SMALL = DPTNetArgs(kernel=16, n_filters=24, bottleneck=8, hidden=6, n_blocks=2, n_heads=2, chunk_frames=10)


def make(args: DPTNetArgs = SMALL) -> DPTNet:
    torch.manual_seed(0)
    return DPTNet(args)


# ---------------------------------------------------------------------------------------------------------------------
# frames <-> chunks


def test_segment_cuts_half_overlapping_chunks():
    frames = torch.tensor([1.0, 2, 3, 4, 5, 6]).reshape(1, 6, 1)
    expected = [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 0, 0]]
    assert segment(frames, chunk_frames=4)[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize("n_frames", range(1, 25))
def test_overlap_add_of_segments_is_twice_the_frames(n_frames):
    frames = noise(2, n_frames, 3)
    assert torch.equal(overlap_add(segment(frames, chunk_frames=8), n_frames), 2 * frames)


@pytest.mark.parametrize("without_layers, hearing", [
    ((1, 3), range(15, 30)),    # inside each chunk: frame 23 lies in the chunks 15-24 and 20-29
    ((0, 2), range(3, 60, 5)),  # across: it is number 8 of its first chunk, 3 of its second, and so is every fifth
], ids=["even", "odd"])
def test_even_layers_attend_inside_each_chunk_and_odd_ones_across_chunks_at_one_position(without_layers, hearing):
    """Of 60 frames, some have a mask that changes with frame 23. The norm over all of them is out of the way."""
    net = make()
    net.norm = nn.Identity()
    for i in without_layers:
        net.layers[i] = nn.Identity()
    frames = noise(1, 60, SMALL.n_filters)
    changed = frames.clone()
    changed[:, 23] += 1
    change = (net.masks(frames) - net.masks(changed)).abs().amax(dim=(0, 2))
    assert change.gt(1e-6).nonzero().flatten().tolist() == [*hearing]


# ---------------------------------------------------------------------------------------------------------------------
# parts


def test_attention_equals_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(dim=12, n_heads=3), nn.MultiheadAttention(12, num_heads=3)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict({name.replace("in_proj.", "in_proj_"): value for name, value in ours.state_dict().items()})
    x = noise(7, 2, 12)
    assert_close(ours(x), theirs(x, x, x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [2, 4, 32])
@pytest.mark.parametrize("n_samples", [1, 31, 1001])
def test_a_fourier_net_with_a_mask_of_ones_returns_the_mixture(kernel, n_samples):
    net, mixture = make(replace(SMALL, kernel=kernel, n_filters=2 * kernel, fourier=True)), noise(2, n_samples)
    net.masks = lambda frames: torch.ones_like(frames)
    assert_close(net(mixture), mixture, rtol=0, atol=1e-6)
