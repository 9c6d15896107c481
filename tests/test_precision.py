"""extractor/precision.py: where bfloat16 is used."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from extractor import precision


@pytest.mark.parametrize("capabilities, fast", [
    (lambda: {"avx512_bf16": True}, True),
    (lambda: {"amx_bf16": True, "avx512_bf16": False}, True),
    (lambda: {"avx2": True}, False),
    (None, False),  # a torch that does not say
])
def test_auto_is_bf16_on_cpus_that_multiply_it(capabilities, fast, monkeypatch):
    if capabilities:
        monkeypatch.setattr(torch.cpu, "get_capabilities", capabilities, raising=False)
    else:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    enabled = [precision.autocast(torch.device("cpu"), name)._enabled for name in ("auto", "bf16", "fp32")]
    assert enabled == [fast, True, False]


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_auto_is_bf16_from_ampere_on(capability, fast, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.fast(torch.device("cuda")) == fast


def test_in_full_precision_autocast_is_off():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with precision.full(x):
            assert (x @ x).dtype == torch.float32


def test_an_lstm_runs_under_autocast_on_any_cpu():
    torch.manual_seed(0)
    layer, x = nn.LSTM(5, 3, bidirectional=True), torch.randn(7, 2, 5)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = precision.lstm(layer, x)
    assert found.dtype == (torch.bfloat16 if precision.rounds_lstms("cpu") else torch.float32)
    assert_close(found.float(), expected, rtol=0, atol=0.02)
    found.sum().backward()
    assert layer.weight_hh_l0.grad.isfinite().all()


def test_asking_what_the_cpu_can_do_draws_nothing():
    state = torch.get_rng_state()
    precision.rounds_lstms.__wrapped__("cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_gpu_computes_no_lstm_in_halves_since_torch_would_make_them_fp16():
    assert not precision.rounds_lstms("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_small_gradients_of_an_lstm_are_those_of_full_precision():
    torch.manual_seed(0)
    layer, x = nn.LSTM(5, 3).cuda(), torch.randn(7, 2, 5, device="cuda")

    def gradient(device: str) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            return torch.autograd.grad(1e-8 * precision.lstm(layer, x).float().sum(), layer.weight_hh_l0)[0]

    assert_close(gradient("cuda"), gradient("cpu"), rtol=1e-3, atol=0)
