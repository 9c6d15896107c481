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
