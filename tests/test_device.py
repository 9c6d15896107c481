"""The choice of a device."""

import pytest
import torch

from extractor import UserError
from extractor.device import pick_device


@pytest.mark.parametrize("name", ["gpu", "", "cuda:one", "the fast one", "meta"])
def test_a_name_that_is_no_device_is_refused_with_those_that_are(name):
    with pytest.raises(UserError, match=f"device = {name!r}: use auto, cpu, cuda or cuda:1"):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_is_refused_where_there_is_none(name):
    with pytest.raises(UserError, match=f"device = {name!r}, but torch .* sees 0 CUDA devices here: use auto or cpu"):
        pick_device(name)


def test_auto_is_cuda_where_there_is_one_else_the_cpu():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name, local_rank, expected", [
    ("auto", 0, "cuda:0"), ("auto", 1, "cuda:1"), ("cuda", 1, "cuda:1"), ("cuda:1", 0, "cuda:1"),
    ("cuda:1", 1, "cuda:1"),
])
def test_every_process_of_a_machine_has_the_gpu_of_its_number(name, local_rank, expected, two_gpus):
    assert pick_device(name, local_rank) == torch.device(expected)


@pytest.mark.parametrize("name, local_rank, words", [
    ("auto", 2, "process 2 of this machine has no GPU, there are 2: --nproc_per_node 2"),
    ("cuda:2", 0, "device = 'cuda:2', but torch .* sees 2 CUDA devices here"),
    ("cuda:0", 1, "device = 'cuda:0' for every process of this machine: use auto, a GPU for each"),
])
def test_a_gpu_that_is_not_there_or_is_another_process_s_is_refused(name, local_rank, words, two_gpus):
    with pytest.raises(UserError, match=words):
        pick_device(name, local_rank)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
