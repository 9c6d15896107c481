"""The choice of a device, and of the precision on it."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from extractor import UserError, loader, precision
from extractor.device import hidden_gpu, pick_device


@pytest.mark.parametrize("name", ["gpu", "", "cuda:one", "the fast one", "meta"])
def test_a_name_that_is_no_device_is_refused_with_those_that_are(name):
    with pytest.raises(UserError, match=f"device = {name!r}: use auto, cpu, cuda or cuda:1"):
        pick_device(name)


@pytest.mark.parametrize("name, local_rank, expected", [
    ("auto", 0, "cuda:0"), ("auto", 1, "cuda:1"), ("cuda", 1, "cuda:1"), ("cuda:1", 0, "cuda:1"),
    ("cuda:1", 1, "cuda:1"),
])
def test_every_process_of_a_machine_has_the_gpu_of_its_number_and_memory_on_no_other(
    name, local_rank, expected, two_gpus
):
    assert pick_device(name, local_rank) == torch.device(expected) and two_gpus == [torch.device(expected)]


@pytest.mark.parametrize("name, local_rank, words", [
    ("auto", 2, "process 2 of this machine has no GPU, there are 2: --nproc_per_node 2"),
    ("cuda:2", 0, "device = 'cuda:2', but torch .* sees 2 CUDA devices here"),
    ("cuda:0", 1, "device = 'cuda:0' for every process of this machine: use auto, a GPU for each"),
])
def test_a_gpu_that_is_not_there_or_is_another_process_s_is_refused(name, local_rank, words, two_gpus):
    with pytest.raises(UserError, match=words):
        pick_device(name, local_rank)


BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90a", "sm_120", "compute_120"]


@pytest.mark.parametrize("capability, known", [
    ((6, 1), False), ((7, 0), False), ((7, 5), True), ((8, 9), True), ((9, 0), True), ((10, 0), False), ((12, 1), True),
    ((13, 0), True),
])
def test_a_gpu_for_which_torch_has_no_kernels_is_not_taken(capability, known, two_gpus, monkeypatch, capsys):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: BUILT_FOR)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    assert pick_device("auto").type == ("cuda" if known else "cpu")
    assert ("Card is too old for this torch; the CPU is used" in capsys.readouterr().out) != known
    if not known:
        with pytest.raises(UserError, match="Card is none of the GPUs that this torch was built for .sm_75 .*--device"):
            pick_device("cuda")


@pytest.mark.parametrize("cuda, driver, hidden", [(None, True, True), (None, False, False), ("13.0", True, False)])
def test_a_card_that_torch_was_not_built_for_is_not_passed_over_in_silence(cuda, driver, hidden, monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if driver else None)
    assert pick_device("auto") == torch.device("cpu") and hidden_gpu() == hidden
    assert ("there is an NVIDIA card, but this torch was built without CUDA" in capsys.readouterr().out) == hidden
    with pytest.raises(UserError, match="sees 0 CUDA devices here: use auto or cpu" + hidden * "; there is an NVIDIA"):
        pick_device("cuda")


@pytest.mark.parametrize("device, cores, processes, expected", [
    ("cpu", 16, 1, 2), ("cpu", 1, 1, 2), ("cuda", 2, 1, 1), ("cuda", 6, 1, 5), ("cuda", 64, 1, 8), ("cuda", 16, 4, 3),
    ("cuda", 1, 1, 1),
])
def test_as_many_processes_make_mixtures_as_a_gpu_has_cores_beside_it(device, cores, processes, expected, monkeypatch):
    monkeypatch.setattr(loader, "n_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert loader.n_workers(torch.device(device)) == expected


@pytest.fixture
def two_gpus(monkeypatch) -> list:
    """Those that were made the current one."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


# ---------------------------------------------------------------------------------------------------------------------
# where bfloat16 is used


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
