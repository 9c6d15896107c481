"""What the DPTNet family promises. What every net promises is in test_contract.py; that it computes
what others compute is in test_dptnet_parity.py."""

from dataclasses import replace

import pytest
import torch
from nets import gradients, noise
from torch import nn
from torch.testing import assert_close

from dptnet import PRESETS, Attention, DPTNet, DPTNetArgs, fourier_frame, overlap_add, segment
from extractor import sigma

SMALL = DPTNetArgs(kernel=16, n_filters=24, bottleneck=8, hidden=6, n_blocks=2, n_heads=2, chunk_frames=10)


def make(args: DPTNetArgs = SMALL) -> DPTNet:
    torch.manual_seed(0)
    return DPTNet(args)


# ---------------------------------------------------------------------------------------------------------------------
# size and shape


@pytest.mark.parametrize(
    "args, n_parameters",
    [
        (PRESETS["tiny"], 121_313),
        (PRESETS["small"], 612_417),
        (PRESETS["base"], 2_846_145),
        (PRESETS["base_fine"], 2_837_953),
        (PRESETS["paper"], 2_830_785),
    ],
)
def test_every_preset_has_the_stated_number_of_parameters(args, n_parameters):
    assert sum(parameter.numel() for parameter in DPTNet(args).parameters()) == n_parameters


@pytest.mark.parametrize(
    "fields, value_and_remedy",
    [
        ({"kernel": 33}, ["kernel = 33", "even"]),
        ({"kernel": 0}, ["kernel = 0", "at least 2"]),
        ({"chunk_frames": 151}, ["chunk_frames = 151", "even"]),
        ({"bottleneck": 62}, ["bottleneck = 62", "multiple of n_heads = 4"]),
        ({"fourier": True, "n_filters": 65}, ["fourier", "n_filters = 2 * kernel = 64", "65"]),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_value_and_the_remedy(fields, value_and_remedy):
    with pytest.raises(ValueError) as error:
        DPTNetArgs(**fields)
    for words in value_and_remedy:
        assert words in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# sigma-reparam

SIGMA = replace(SMALL, kernel=16, n_filters=32, fourier=True, sigma_reparam=True)


def test_sigma_reparam_is_on_every_matrix_but_the_filterbanks_and_the_lstms():
    net, plain = make(SIGMA), make(replace(SIGMA, sigma_reparam=False))
    matrices = {name for name, value in plain.state_dict().items() if value.ndim == 2}
    reparametrised = {name.replace(".parametrizations.weight.original", ".weight")
                      for name, _ in net.named_parameters() if "original" in name}
    left = {name for name in matrices if name in ("encoder.weight", "decoder.weight") or ".lstm." in name}
    assert reparametrised == matrices - left and len(reparametrised) == 3 * 4 + 5


def test_queries_keys_and_values_each_have_a_gamma_which_starts_at_their_spectral_norm():
    net, plain = make(SIGMA), make(replace(SIGMA, sigma_reparam=False))
    for layer, other in zip(net.layers, plain.layers, strict=True):
        expected = torch.stack([torch.linalg.svdvals(w)[0] for w in other.attention.in_proj.weight.chunk(3)])
        assert_close(layer.attention.in_proj.parametrizations.weight[0].gamma, expected, rtol=1e-6, atol=0)
        out = layer.attention.out_proj.parametrizations.weight[0].gamma
        assert_close(out, torch.linalg.svdvals(other.attention.out_proj.weight)[:1], rtol=1e-6, atol=0)


def test_with_sigma_reparam_a_net_starts_as_the_plain_one():
    net, plain = make(SIGMA), make(replace(SIGMA, sigma_reparam=False))
    assert torch.equal(net(noise(2, 500)), plain(noise(2, 500)))
    assert torch.equal(net.encoder.weight, fourier_frame(16)) and torch.equal(net.decoder.weight, fourier_frame(16).T)


def after_a_step(args: DPTNetArgs) -> DPTNet:
    """A step so large that u and v are no longer the singular vectors."""
    net = make(args).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.03)
    gradients(net, noise(2, 500), target=noise(2, 500).flip(-1))
    optimizer.step()
    sigma.update(net)
    return net


def test_folded_it_has_the_plain_net_s_keys_and_computes_the_same():
    net, plain, mixture = after_a_step(SIGMA), make(replace(SIGMA, sigma_reparam=False)), noise(2, 500)
    estimate = net(mixture)
    plain.load_state_dict(sigma.fold(net).state_dict())
    assert_close(plain(mixture), estimate, rtol=0, atol=1e-6 * estimate.abs().max().item())


def test_without_sigma_reparam_the_keys_are_those_of_old_checkpoints():
    layer = [f"attention.{name}.{kind}" for name in ("in_proj", "out_proj") for kind in ("weight", "bias")]
    layer += [f"lstm.{kind}_{i}h_l0{way}" for kind in ("weight", "bias") for i in "ih" for way in ("", "_reverse")]
    layer += [f"{name}.{kind}" for name in ("norm_attention", "linear", "norm_lstm") for kind in ("weight", "bias")]
    keys = {f"layers.{i}.{name}" for i in range(4) for name in layer}
    keys |= {f"{name}.{kind}" for name in ("norm", "head.1", "value", "gate") for kind in ("weight", "bias")}
    keys |= {f"{name}.weight" for name in ("encoder", "bottleneck", "head.0", "mask", "decoder")}
    assert make().state_dict().keys() == keys


def test_checkpointing_leaves_the_gradients_with_sigma_reparam_as_they_are():
    plain, checkpointed = after_a_step(SIGMA), after_a_step(replace(SIGMA, checkpointing=True))
    mixture, target = noise(2, 400), noise(2, 400).flip(-1)
    before = {name: buffer.clone() for name, buffer in checkpointed.named_buffers()}
    assert_close(gradients(plain, mixture, target), gradients(checkpointed, mixture, target), rtol=1e-6, atol=1e-9)
    assert len(before) == 2 * (3 * 4 + 5)
    for name, buffer in checkpointed.named_buffers():
        assert torch.equal(buffer, before[name]), name


# ---------------------------------------------------------------------------------------------------------------------
# frames <-> chunks


def test_segment_cuts_half_overlapping_chunks():
    frames = torch.tensor([1.0, 2, 3, 4, 5, 6]).reshape(1, 6, 1)
    expected = [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 0, 0]]
    assert segment(frames, chunk_frames=4)[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize("n_frames", range(1, 25))
def test_every_frame_lies_in_exactly_two_chunks(n_frames):
    chunks = segment(torch.arange(1, n_frames + 1).reshape(1, n_frames, 1), chunk_frames=8)
    assert chunks.flatten().bincount(minlength=n_frames + 1)[1:].tolist() == [2] * n_frames


@pytest.mark.parametrize("n_frames", range(1, 25))
def test_overlap_add_of_segments_is_twice_the_frames(n_frames):
    frames = noise(2, n_frames, 3)
    assert torch.equal(overlap_add(segment(frames, chunk_frames=8), n_frames), 2 * frames)


def frames_that_hear_frame_23(without_layers: tuple[int, ...]) -> list[int]:
    """Of 60 frames, those whose mask changes with frame 23. The norm over all of them is out of the way."""
    net = make()
    net.norm = nn.Identity()
    for i in without_layers:
        net.layers[i] = nn.Identity()
    frames = noise(1, 60, SMALL.n_filters)
    changed = frames.clone()
    changed[:, 23] += 1
    change = (net.masks(frames) - net.masks(changed)).abs().amax(dim=(0, 2))
    return change.gt(1e-6).nonzero().flatten().tolist()


def test_even_layers_attend_inside_each_chunk():
    # frame 23 lies in the chunks 15-24 and 20-29
    assert frames_that_hear_frame_23(without_layers=(1, 3)) == list(range(15, 30))


def test_odd_layers_attend_across_chunks_at_one_position():
    # frame 23 is number 8 of its first chunk and number 3 of its second, and so is every fifth frame
    assert frames_that_hear_frame_23(without_layers=(0, 2)) == list(range(3, 60, 5))


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
