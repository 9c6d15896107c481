"""The choice of a device."""

import pytest
import torch

from extractor import UserError, loader
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
