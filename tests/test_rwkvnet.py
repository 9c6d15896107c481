"""What the RWKVNet family promises. The layers are in test_rwkv7.py, filterbanks and chunks in test_dptnet.py."""

from dataclasses import replace

import pytest
import torch
from nets import gradients, noise
from torch import nn
from torch.testing import assert_close

from rwkvnet import RWKVNet, RWKVNetArgs

SMALL = RWKVNetArgs(kernel=16, n_filters=24, bottleneck=12, n_blocks=2, n_heads=2, chunk_frames=10)
ZERO_AT_FIRST = ("time_mix.output.weight", "channel_mix.value.weight")  # so that a layer starts as the identity


def make(args: RWKVNetArgs = SMALL) -> RWKVNet:
    """A net whose layers do something."""
    torch.manual_seed(0)
    net = RWKVNet(args)
    for name, parameter in net.named_parameters():
        if name.endswith((*ZERO_AT_FIRST, ".down")):
            nn.init.normal_(parameter, std=0.3)
    return net


# ---------------------------------------------------------------------------------------------------------------------
# size and shape


@pytest.mark.parametrize(
    "fields, value_and_remedy",
    [
        ({"kernel": 33}, ["kernel = 33", "even"]),
        ({"chunk_frames": 151}, ["chunk_frames = 151", "even"]),
        ({"n_blocks": 0}, ["n_blocks = 0", "at least 1"]),
        ({"n_heads": 1}, ["n_heads = 1", "even", "at least 2"]),
        ({"n_heads": 3, "bottleneck": 63}, ["n_heads = 3", "even"]),
        ({"n_heads": 4, "bottleneck": 62}, ["bottleneck = 62", "multiple of n_heads = 4"]),
        ({"fourier": True, "n_filters": 65}, ["fourier", "n_filters = 2 * kernel = 64", "65"]),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_value_and_the_remedy(fields, value_and_remedy):
    with pytest.raises(ValueError) as error:
        RWKVNetArgs(**fields)
    for words in ("RWKVNetArgs", *value_and_remedy):
        assert words in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# gradients


def test_at_first_the_layers_learn_through_their_output_projections_alone():
    torch.manual_seed(0)
    for name, gradient in gradients(RWKVNet(SMALL), noise(2, 500), target=noise(2, 500).flip(-1)).items():
        learns = not name.startswith("layers.") or name.endswith(ZERO_AT_FIRST)
        assert gradient.isfinite().all() and bool(gradient.any()) == learns, name


def test_two_steps_after_the_start_every_parameter_learns():
    torch.manual_seed(0)
    net = RWKVNet(SMALL)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(2):  # the output projections, then the LoRAs' first matrices, which are zero as well
        gradients(net, noise(2, 500), target=noise(2, 500).flip(-1))
        optimizer.step()
    for name, gradient in gradients(net, noise(2, 500), target=noise(2, 500).flip(-1)).items():
        assert gradient.isfinite().all() and gradient.any(), name


@pytest.mark.parametrize("gain", [0, 1e-12, 1e-6])
def test_a_mixture_that_falls_silent_has_gradients_of_the_usual_size(gain):
    net, mixture = make(), noise(1, 2000)
    quiet = torch.cat([mixture[:, :1000], gain * mixture[:, 1000:]], dim=1)

    def size(mixture: torch.Tensor) -> float:
        return torch.stack([g.norm() for g in gradients(net, mixture, target=noise(1, 2000).flip(-1)).values()]).norm()

    assert size(quiet) < 10 * size(mixture)


def test_a_fourier_net_with_a_mask_of_ones_returns_the_mixture():
    net, mixture = make(replace(SMALL, n_filters=32, fourier=True)), noise(2, 1001)
    net.masks = lambda frames: torch.ones_like(frames)
    assert_close(net(mixture), mixture, rtol=0, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# the two paths


def test_the_paths_are_layers_inside_each_chunk_and_across_the_chunks_each_with_the_values_of_its_first():
    net, chunks = make(), noise(2, 5, 10, SMALL.bottleneck)
    x, inside, across = chunks.clone(), {}, {}
    for block in range(SMALL.n_blocks):
        for item in range(2):
            for s in range(5):
                out, inside[item, s] = net.layers[2 * block](x[item, s][None], inside.get((item, s)))
                x = x.index_put((torch.tensor(item), torch.tensor(s)), out[0])
            for k in range(10):
                out, across[item, k] = net.layers[2 * block + 1](x[item, :, k][None], across.get((item, k)))
                x = x.clone()
                x[item, :, k] = out[0]
    assert_close(net.paths(chunks), net.norm_out(x), rtol=0, atol=1e-4)


def test_depth_counts_by_path():
    first, second = (RWKVNet(replace(SMALL, n_blocks=n)) for n in (1, 2))
    assert [layer.time_mix.v is None for layer in first.layers] == [True, True]
    assert [layer.time_mix.v is None for layer in second.layers] == [True, True, False, False]


def frames_that_hear_frame_23(without_layers: tuple[int, ...]) -> list[int]:
    """Of 60 frames, those whose mask changes with frame 23. The norm over all of them is out of the way."""
    class Through(nn.Module):
        def forward(self, x, v_first):
            return x, v_first

    net = make(replace(SMALL, n_blocks=1)).double()
    net.norm = nn.Identity()
    for i in without_layers:
        net.layers[i] = Through()
    frames = noise(1, 60, SMALL.n_filters).double()
    changed = frames.clone()
    changed[:, 23] += 1
    change = (net.masks(frames) - net.masks(changed)).abs().amax(dim=(0, 2))
    return change.gt(1e-12).nonzero().flatten().tolist()


def test_even_layers_run_inside_each_chunk_in_both_directions():
    # frame 23 lies in the chunks 15-24 and 20-29
    assert frames_that_hear_frame_23(without_layers=(1,)) == list(range(15, 30))


def test_odd_layers_run_across_chunks_at_one_position_in_both_directions():
    # frame 23 is number 8 of its first chunk and number 3 of its second, and so is every fifth frame
    assert frames_that_hear_frame_23(without_layers=(0,)) == list(range(3, 60, 5))


def test_both_paths_treat_the_two_directions_of_time_alike():
    """Reversed chunks of reversed frames, their channels exchanged between the directions, give the same, reversed."""
    net, mirror, half = make(), make(), SMALL.bottleneck // 2
    state = {}
    for name, value in net.state_dict().items():
        axes = [axis for axis, size in enumerate(value.shape) if size == SMALL.bottleneck]
        state[name] = value.roll([half] * len(axes), axes) if axes else value
    mirror.load_state_dict(state)
    chunks = noise(2, 7, 10, SMALL.bottleneck)
    found = mirror.paths(chunks.flip(1, 2).roll(half, -1)).roll(half, -1).flip(1, 2)
    assert_close(found, net.paths(chunks), rtol=0, atol=1e-4)
