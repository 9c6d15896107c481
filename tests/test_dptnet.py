"""What the DPTNet family promises beside what every net does, and that it computes what asteroid's DPTNet computes."""

import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from asteroid.models import DPTNet as AsteroidDPTNet
from einops import rearrange
from nets import DPTNET, noise
from torch import Tensor, nn
from torch.testing import assert_close

import dptnet
from dptnet import DPTNet, DPTNetArgs, GlobalNorm, overlap_add, segment


def test_segment_cuts_half_overlapping_chunks():
    frames = torch.tensor([1.0, 2, 3, 4, 5, 6]).reshape(1, 6, 1)
    expected = [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 0, 0]]
    assert segment(frames, chunk_frames=4)[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize("n_frames", range(1, 25))
def test_overlap_add_of_segments_is_twice_the_frames(n_frames):
    frames = noise(2, n_frames, 3)
    assert torch.equal(overlap_add(segment(frames, chunk_frames=8), n_frames), 2 * frames)


@pytest.mark.parametrize("kernel", [2, 4, 32])
@pytest.mark.parametrize("n_samples", [1, 31, 1001])
def test_a_fourier_net_with_a_mask_of_ones_returns_the_mixture(kernel, n_samples):
    torch.manual_seed(0)
    net, mixture = DPTNet(replace(DPTNET, kernel=kernel, n_filters=2 * kernel, fourier=True)), noise(2, n_samples)
    net.masks = lambda frames: torch.ones_like(frames)
    assert_close(net(mixture), mixture, rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# with asteroid's weights, forward and backward
#
# asteroid deviates from the authors: its layers norm a sequence over features and positions at once, it has neither a
# bottleneck nor a mask projection, pads a whole chunk on both sides, halves the overlap-add, leaves the level and the
# ends of the mixture alone and fills up with zeros. `LikeAsteroid` does the same; all else is our code.


class SequenceNorm(GlobalNorm):
    """[L, B, N] -> [L, B, N]"""

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(super().forward(rearrange(x, "l b n -> b l n")), "b l n -> l b n")


def segment_with_a_chunk_on_both_sides(frames: Tensor, chunk_frames: int) -> Tensor:
    padded = F.pad(frames, (0, 0, chunk_frames, chunk_frames))
    return rearrange(padded.unfold(1, chunk_frames, chunk_frames // 2), "b s n k -> b s k n")


def halved_overlap_add(chunks: Tensor, n_frames: int, ours=overlap_add) -> Tensor:
    hop = chunks.shape[2] // 2
    return ours(chunks, hop + n_frames)[:, hop:] / 2


class LikeAsteroid(DPTNet):
    def __init__(self, args: DPTNetArgs, mask: nn.Module):
        super().__init__(args)
        self.bottleneck, self.mask = nn.Identity(), mask
        for layer in self.layers:
            layer.norm_attention, layer.norm_lstm = SequenceNorm(args.bottleneck), SequenceNorm(args.bottleneck)

    def forward(self, mixture: Tensor) -> Tensor:
        n_samples, stride = mixture.shape[-1], self.args.stride
        n_frames = (n_samples - self.args.kernel) // stride + 1
        frames = self.encode(mixture)[:, 1 : 1 + n_frames]  # those that see none of our padding
        estimate = self.decode(frames * self.masks(frames))
        return F.pad(estimate, (0, n_samples - estimate.shape[-1]))


ASTEROID_NAMES = {
    "encoder.weight": "encoder.filterbank._filters",
    "decoder.weight": "decoder.filterbank._filters",
    "norm.weight": "masker.in_norm.gamma",
    "norm.bias": "masker.in_norm.beta",
    "attention.in_proj.": "mha.in_proj_",
    "attention.out_proj.": "mha.out_proj.",
    "norm_attention.weight": "norm_mha.gamma",
    "norm_attention.bias": "norm_mha.beta",
    "norm_lstm.weight": "norm_ff.gamma",
    "norm_lstm.bias": "norm_ff.beta",
    "lstm.": "recurrent.",
    "head.": "masker.first_out.",
    "value.": "masker.net_out.0.",
    "gate.": "masker.net_gate.0.",
}


def asteroid_name(name: str) -> str:
    """'layers.3.attention.in_proj.weight' -> 'masker.layers.1.1.mha.in_proj_weight'"""
    name = re.sub(r"^layers\.(\d+)", lambda i: f"masker.layers.{int(i[1]) // 2}.{int(i[1]) % 2}", name)
    for ours, theirs in ASTEROID_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def by_our_names(net: DPTNet, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """asteroid's weights, or their gradients, in our shapes: its 1x1 convolutions and filterbanks are matrices here."""
    assert {asteroid_name(name) for name in net.state_dict()} == set(theirs)
    ours = {name: theirs[asteroid_name(name)].flatten(1) if weight.dim() > 1 else theirs[asteroid_name(name)]
            for name, weight in net.state_dict().items()}
    return ours | {"decoder.weight": ours["decoder.weight"].T}


def run(net: nn.Module, mixture: Tensor, target: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The estimate and the gradients of a loss with respect to the mixture and to every weight."""
    mixture = mixture.clone().requires_grad_()
    estimate = net(mixture).reshape(target.shape)
    (estimate - target).square().sum().backward()
    return estimate.detach(), mixture.grad, {name: weight.grad for name, weight in net.named_parameters()}


def difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("kernel, chunk_frames, mask_act, shape", [
    (16, 100, "relu", (2, 2400)),    # 299 frames, no whole number of hops
    (2, 50, "relu", (1, 401)),       # 400 frames, 16 hops: the last chunk is all padding
    (32, 30, "sigmoid", (2, 2003)),  # 3 samples past the last frame
])
def test_the_estimate_and_all_gradients_equal_those_of_asteroid(monkeypatch, kernel, chunk_frames, mask_act, shape):
    monkeypatch.setattr(dptnet, "segment", segment_with_a_chunk_on_both_sides)
    monkeypatch.setattr(dptnet, "overlap_add", halved_overlap_add)
    torch.manual_seed(0)
    theirs = AsteroidDPTNet(1, n_heads=2, ff_hid=6, chunk_size=chunk_frames, n_repeats=2, mask_act=mask_act,
                            kernel_size=kernel, n_filters=12, stride=kernel // 2).double()
    for weight in theirs.parameters():
        weight.data += 0.1 * torch.randn_like(weight)  # norms and biases start as ones and zeros, which hide mistakes
    args = DPTNetArgs(kernel=kernel, n_filters=12, bottleneck=12, hidden=6, n_blocks=2, n_heads=2,
                      chunk_frames=chunk_frames)
    ours = LikeAsteroid(args, nn.Sigmoid() if mask_act == "sigmoid" else nn.Identity()).double()
    ours.load_state_dict(by_our_names(ours, theirs.state_dict()))

    mixture, target = torch.randn(shape).double(), torch.randn(shape).double()
    estimate, mixture_gradient, gradients = run(ours, mixture, target)
    asteroid_estimate, asteroid_mixture_gradient, asteroid_gradients = run(theirs, mixture, target)

    assert difference(estimate, asteroid_estimate) < 1e-9
    assert difference(mixture_gradient, asteroid_mixture_gradient) < 1e-9
    for name, expected in by_our_names(ours, asteroid_gradients).items():
        assert difference(gradients[name], expected) < 1e-9, name
