"""RWKV-7: that the fast form equals the definition, that both equal the authors' code, and what two directions mean."""

import importlib
import math
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from nets import RWKVNET, gradients
from torch import nn
from torch.testing import assert_close

from extractor import rwkv7
from extractor.rwkv7 import MIN_LOG_W, ChannelMix, Layer, TimeMix, wkv7
from rwkvnet import RWKVNet

DIM, N_HEADS = 24, 4


def noise(*shape: int, seed: int = 1, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def signals(n_frames: int, dtype=torch.float64, n_heads: int = 2, width: int = 8) -> list[torch.Tensor]:
    """r, log_w, k, v, a, b as a time mix makes them."""
    r, d, k, v, kk, rate = (noise(2, n_frames, n_heads, width, seed=s, dtype=dtype) for s in range(6))
    kk = F.normalize(kk, dim=-1)
    return [x.requires_grad_() for x in (r, MIN_LOG_W * d.sigmoid(), k, v, -kk, kk * rate.sigmoid())]


def stirred(module: nn.Module) -> nn.Module:
    """No parameter is at its initial value, where the output is zero and much else has no effect."""
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter += 0.2 * noise(*parameter.shape, seed=i)
    return module


def assert_equal_up_to(found: torch.Tensor, expected: torch.Tensor, error: float):
    assert_close(found, expected, rtol=0, atol=error * max(1.0, expected.abs().max().item()))


def wkv7_recurrent(r, log_w, k, v, a, b) -> torch.Tensor:
    """The recurrence as it is defined, frame by frame: what `wkv7` must equal. 6 times [B, T, H, N] -> [B, T, H, N]

    S_t = S_{t-1} diag(w_t) + (S_{t-1} a_t) b_t^T + v_t k_t^T,  o_t = S_t r_t
    """
    state, out = 0 * torch.einsum("bhv,bhk->bhvk", v[:, 0], k[:, 0]), []
    for r_t, log_w_t, k_t, v_t, a_t, b_t in zip(*(x.unbind(1) for x in (r, log_w, k, v, a, b)), strict=True):
        seen = torch.einsum("bhvk,bhk->bhv", state, a_t)
        state = state * log_w_t.exp()[:, :, None] + seen[..., None] * b_t[:, :, None] + v_t[..., None] * k_t[:, :, None]
        out.append(torch.einsum("bhvk,bhk->bhv", state, r_t))
    return torch.stack(out, dim=1)


def assert_same_outputs_and_gradients(inputs: list[torch.Tensor], error: float, chunk_frames: int):
    """Of the fast form and, in fp64, of the recurrence."""
    weight, both = noise(*inputs[0].shape, dtype=torch.float64), []
    for form, dtype in ((partial(wkv7, chunk_frames=chunk_frames), inputs[0].dtype), (wkv7_recurrent, torch.float64)):
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        out = form(*leaves)
        assert out.dtype == dtype
        both.append([out, *torch.autograd.grad((out * weight).sum(), leaves)])
    for found, expected in zip(*both, strict=True):
        assert_equal_up_to(found.double(), expected, error)


@pytest.mark.parametrize("n_frames", [1, 31, 32, 33, 257])
@pytest.mark.parametrize("chunk_frames", [1, 16, 32, 64])
def test_chunks_give_the_outputs_and_gradients_of_the_recurrence(n_frames, chunk_frames):
    assert_same_outputs_and_gradients(signals(n_frames), 1e-10, chunk_frames)


@pytest.mark.parametrize("chunk_frames", [16, 32, 64, 128])
@pytest.mark.parametrize("log_w", [MIN_LOG_W, -1e-6])
def test_the_strongest_and_the_weakest_decay_are_exact_in_fp32(log_w, chunk_frames):
    inputs = signals(257, torch.float32)
    inputs[1] = torch.full_like(inputs[1], log_w)
    assert_same_outputs_and_gradients(inputs, 1e-5, chunk_frames)


def test_a_kernel_that_cannot_bound_the_decay_is_not_taken(monkeypatch):
    def old(r, w, k, v, a, b, scale=1.0): ...
    def new(r, w, k, v, a, b, scale=1.0, safe_gate=False, lower_bound=None, chunk_size=64): ...

    for kernel, taken in ((old, None), (new, new)):
        monkeypatch.setitem(sys.modules, "fla.ops.rwkv7", SimpleNamespace(chunk_rwkv7=kernel))
        for package in ("fla", "fla.ops"):
            monkeypatch.setitem(sys.modules, package, SimpleNamespace())
        assert rwkv7.fla_kernel.__wrapped__() is taken


def test_the_output_has_the_precision_of_r_and_autocast_does_not_touch_the_recurrence():
    inputs = signals(50, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = wkv7(*inputs)
    assert torch.equal(found, wkv7(*inputs))
    half = [x.bfloat16() for x in inputs]
    assert wkv7(*half).dtype == torch.bfloat16
    assert_close(wkv7(*half), wkv7(*(x.float() for x in half)).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_kernel_of_fla_core_gives_our_outputs_and_gradients(dtype, monkeypatch):
    pytest.importorskip("fla")
    plain = signals(300, torch.float32, n_heads=4, width=32)
    ours = [x.detach().cuda().requires_grad_() for x in plain]
    half = [x.detach().to(x.dtype if i == 1 else dtype).requires_grad_() for i, x in enumerate(ours)]
    assert rwkv7.fla_kernel()
    found = wkv7(*half)
    assert found.dtype == dtype
    expected = wkv7(*ours)  # fp32: in plain PyTorch
    gradients = torch.autograd.grad(found.float().square().sum(), half)
    expected_gradients = torch.autograd.grad(expected.square().sum(), ours)
    for x, y in zip((found, *gradients), (expected, *expected_gradients), strict=True):
        assert (x.float() - y).norm() < 2e-2 * y.norm()  # the inputs themselves are rounded to 8 bits
    monkeypatch.setenv("PLAIN_WKV7", "1")
    assert (wkv7(*half).float() - expected).norm() < 2e-2 * expected.norm()


@pytest.fixture(scope="module")
def authors():
    """rwkv/model.py of the package rwkv, as plain Python: TorchScript only slows it down here."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    autocast_in_scripts = torch._C._jit_set_autocast_mode(False)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}.items():
            patch.setenv(name, value)
        patch.setattr(torch.jit, "script", lambda function: function)
        patch.setattr(torch.jit, "script_method", lambda function: function)
        patch.setattr(torch.jit, "ScriptModule", nn.Module)
        patch.delitem(sys.modules, "rwkv.model", raising=False)
        yield importlib.import_module("rwkv.model")
    del sys.modules["rwkv.model"]
    torch._C._jit_set_autocast_mode(autocast_in_scripts)
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = flags


@pytest.mark.parametrize("layer", [0, 2])
def test_a_time_mix_of_one_direction_is_the_authors(layer, authors):
    mix, n_frames = stirred(TimeMix(DIM, N_HEADS, layer, n_layers=4, bidirectional=False)), 45
    x, v_first, width = noise(n_frames, DIM), noise(n_frames, DIM, seed=2), DIM // N_HEADS
    v = mix.v or mix.a  # layer 0 has none, and the authors' does not use what it is given
    with torch.no_grad():
        expected, _, _, expected_first = authors.RWKV_x070_TMix_seq(
            layer, N_HEADS, width, x, torch.zeros(DIM), v_first, torch.zeros(N_HEADS, width, width),
            mix.mu_r, mix.mu_w, mix.mu_k, mix.mu_v, mix.mu_a, mix.mu_g, mix.w.offset, mix.w.down.T, mix.w.up.T,
            mix.a.offset, mix.a.down.T, mix.a.up.T, v.offset, v.down.T, v.up.T, mix.g.down.T, mix.g.up.T,
            mix.k_k, mix.k_a, mix.r_k,
            *(linear.weight.T for linear in (mix.receptance, mix.key, mix.value, mix.output)),
            mix.norm_weight, mix.norm_bias,
        )  # fmt: skip
        found, found_first = mix(x[None], v_first[None])
    assert_equal_up_to(found[0], expected, error=1e-5)
    assert_equal_up_to(found_first[0], expected_first, error=1e-6)


def test_a_channel_mix_of_one_direction_is_the_authors(authors):
    mix, x = stirred(ChannelMix(DIM, layer=1, n_layers=4, bidirectional=False)), noise(45, DIM)
    with torch.no_grad():
        expected, _ = authors.RWKV_x070_CMix_seq(x, torch.zeros(DIM), mix.mu_k, mix.key.weight.T, mix.value.weight.T)
        assert_equal_up_to(mix(x[None])[0], expected, error=1e-6)


@pytest.mark.parametrize("layer, n_layers", [(0, 1), (0, 6), (3, 6), (5, 6)])
def test_the_first_values_are_the_authors(layer, n_layers):
    """src/model.py of BlinkDL/RWKV-LM, RWKV-v7/train_temp, channel by channel"""
    net, head = Layer(DIM, N_HEADS, layer, n_layers, bidirectional=False), DIM // N_HEADS
    mix, ratio, height = net.time_mix, layer / max(n_layers - 1, 1), 1 - layer / n_layers
    for n in range(DIM):
        linear = n / (DIM - 1) - 0.5
        zigzag = (n % head - (head - 1) / 2) / ((head - 1) / 2)
        zigzag *= abs(zigzag)
        powers = {mix.mu_r: 0.2, mix.mu_w: 0.9, mix.mu_k: 0.7, mix.mu_v: 0.7, mix.mu_a: 0.9, mix.mu_g: 0.2}
        expected = {mu: 1 - (n / DIM) ** (power * height) for mu, power in powers.items()} | {
            mix.w.offset: -6 + 6 * (n / (DIM - 1)) ** (1 + ratio**0.3) + 0.5 + 2.5 * zigzag,
            mix.a.offset: -0.19 + 0.3 * zigzag + 0.4 * linear,
            mix.k_k: 0.71 - 0.1 * linear,
            mix.k_a: 1.02,
            mix.r_k: -0.04,
            mix.norm_weight: 1,
            mix.norm_bias: 0,
            net.channel_mix.mu_k: 1 - (n / DIM) ** (height**4),
        }
        if layer:
            expected[mix.v.offset] = 0.73 - 0.4 * linear
        for parameter, value in expected.items():
            assert parameter[n].item() == pytest.approx(value, abs=1e-5)
    weights = {mix.receptance: 0.5, mix.key: 0.05, mix.value: 0.5, net.channel_mix.key: 0.5}
    for linear, bound in weights.items():  # uniform
        limit = bound / math.sqrt(DIM)
        assert 0.9 * limit < linear.weight.abs().max() <= limit and abs(linear.weight.mean()) < 0.1 * limit
    for lora in (mix.w, mix.a, mix.g, *([mix.v] if layer else [])):
        rank, gain = lora.up.shape[1], 0.1 * math.sqrt(max(lora.up.shape[1] / DIM, 1))
        assert lora.down.shape == (rank, DIM) and not lora.down.any()
        gram = lora.up.T @ lora.up if rank <= DIM else lora.up @ lora.up.T
        assert_close(gram, gain**2 * torch.eye(len(gram)))


def test_a_layer_is_the_identity_at_first():
    x = noise(2, 20, DIM)
    assert torch.equal(Layer(DIM, N_HEADS, 0, 2)(x)[0], x)


def frames_that_hear(frame: int, function, x: torch.Tensor) -> list[int]:
    """The frames of function(x) that change with one frame of x. [B, T, ...] -> [B, T, ...], in fp64"""
    changed = x.clone()
    changed[:, frame] *= -1
    change = (function(x) - function(changed)).abs()
    return change.amax(dim=[i for i in range(change.ndim) if i != 1]).gt(1e-12).nonzero().flatten().tolist()


def test_neither_direction_looks_further_than_one_frame_the_other_way():
    """That one frame is the token shift's, whose two directions the projections behind it mix."""
    mix, x, half = stirred(TimeMix(DIM, N_HEADS, 0, 2)).double(), noise(1, 40, DIM, dtype=torch.float64), DIM // 2
    nn.init.eye_(mix.output.weight)
    assert frames_that_hear(10, lambda x: mix(x)[0][..., :half], x) == list(range(9, 40))
    assert frames_that_hear(10, lambda x: mix(x)[0][..., half:], x) == list(range(0, 12))


def test_the_token_shift_of_a_channel_mix_reaches_one_frame_either_way():
    mix, x, half = stirred(ChannelMix(DIM)).double(), noise(1, 40, DIM, dtype=torch.float64), DIM // 2
    assert frames_that_hear(10, mix, x) == [9, 10, 11]
    assert frames_that_hear(10, lambda first: mix(torch.cat([first, x[..., half:]], dim=-1)), x[..., :half]) == [10, 11]
    assert frames_that_hear(10, lambda last: mix(torch.cat([x[..., :half], last], dim=-1)), x[..., half:]) == [9, 10]


def mirrored(net: nn.Module, dim: int) -> nn.Module:
    """The same net with the channels, and so the heads, of the two directions exchanged."""
    state = {}
    for name, value in net.state_dict().items():
        axes = [axis for axis, size in enumerate(value.shape) if size == dim]
        state[name] = value.roll([dim // 2] * len(axes), axes)
    net.load_state_dict(state)
    return net


def test_a_layer_treats_both_directions_of_time_alike():
    layers = [stirred(Layer(DIM, N_HEADS, i, 2)) for i in range(2)]
    x = noise(2, 50, DIM)

    def run(x: torch.Tensor) -> torch.Tensor:
        x, v_first = layers[0](x)
        return layers[1](x, v_first)[0]

    expected = run(x)
    for layer in layers:
        mirrored(layer, DIM)
    found = run(x.flip(1).roll(DIM // 2, dims=-1)).roll(DIM // 2, dims=-1).flip(1)
    assert_equal_up_to(found, expected, error=1e-5)
    assert not torch.allclose(found, expected.flip(1), atol=1e-2)


def test_both_directions_start_from_the_same_values():
    for layer in (0, 1):
        for name, value in Layer(DIM, N_HEADS, layer, 2).named_parameters():
            if value.ndim == 1:
                assert torch.equal(value[: DIM // 2], value[DIM // 2 :]), name


@pytest.mark.parametrize("gain", [0, 1e-30, 1e-12, 1e-9, 1e-6, 1e-3])
def test_frames_of_silence_leave_the_gradients_small(gain):
    """kk is k over its length, whose gradient is large where k is small."""
    torch.manual_seed(0)
    net = Layer(DIM, N_HEADS, 0, 2)
    for linear in (net.time_mix.output, net.channel_mix.value):
        nn.init.normal_(linear.weight, std=0.1)

    def size(x: torch.Tensor) -> float:
        net.zero_grad()
        net(x)[0].square().mean().backward()
        return torch.stack([parameter.grad.norm() for parameter in net.parameters()]).norm().item()

    x = noise(1, 60, DIM)
    quiet = x.clone()
    quiet[:, 20:40] *= gain
    assert size(quiet) < 2 * size(x)


def test_two_steps_after_the_start_every_parameter_of_a_net_learns():
    torch.manual_seed(0)
    net = RWKVNet(RWKVNET)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(2):  # the output projections, then the LoRAs' first matrices, which are zero as well
        gradients(net, 0.1 * noise(2, 500), target=0.1 * noise(2, 500).flip(-1))
        optimizer.step()
    for name, gradient in gradients(net, 0.1 * noise(2, 500), target=0.1 * noise(2, 500).flip(-1)).items():
        assert gradient.isfinite().all() and gradient.any(), name


def test_the_paths_are_layers_inside_each_chunk_and_across_the_chunks_each_with_the_values_of_its_first():
    net, chunks = stirred(RWKVNet(RWKVNET)), 0.1 * noise(2, 5, 10, RWKVNET.bottleneck)
    x, inside, across = chunks.clone(), {}, {}
    for block in range(RWKVNET.n_blocks):
        for item in range(2):
            for s in range(5):
                out, inside[item, s] = net.layers[2 * block](x[item, s][None], inside.get((item, s)))
                x = x.index_put((torch.tensor(item), torch.tensor(s)), out[0])
            for k in range(10):
                out, across[item, k] = net.layers[2 * block + 1](x[item, :, k][None], across.get((item, k)))
                x = x.clone()
                x[item, :, k] = out[0]
    assert_close(net.paths(chunks), net.norm_out(x), rtol=0, atol=1e-4)
