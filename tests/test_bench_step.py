"""bench/step.py: what it counts as what, and that it runs."""

import pytest
import torch
from tiny import NET

import models
from bench import step

CPU = torch.device("cpu")


@pytest.mark.parametrize("operation, kind", [
    ("aten::mkldnn_rnn_layer_backward", "LSTM"), ("aten::_cudnn_rnn", "LSTM"),
    ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"), ("aten::_fft_r2c", "FFT"),
    ("aten::addmm", "products"), ("aten::native_layer_norm", "norms"), ("aten::copy_", "copies"),
    ("aten::gelu", step.REST), ("aten::mul", step.REST),
])
def test_an_operation_is_of_its_kind(operation, kind):
    assert step.kind_of(operation) == kind


@pytest.mark.parametrize("work, kind", [
    (lambda x: x @ x, "products"), (torch.fft.rfft, "FFT"), (torch.exp, step.REST), (torch.clone, "copies"),
])
def test_the_time_of_an_operation_is_counted_under_its_kind(work, kind):
    x = torch.randn(2048, 2048)  # large enough that what is around it counts for nothing
    spent = step.by_kind(lambda: work(x), CPU, repeats=3)
    assert max(spent, key=spent.get) == kind and spent["LSTM"] == spent["attention"] == 0


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(models.PRESETS, "dptnet-tiny", NET)


def test_the_table_of_a_step_has_all_of_it(tiny, recordings, capsys):
    threads = torch.get_num_threads()
    given = (f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",)
    step.main(step.BenchArgs(("dptnet-tiny",), batch=2, repeats=1, device="cpu", clean=given[0], dirty=given[1]))
    torch.set_num_threads(threads)
    head, _, row = capsys.readouterr().out.strip().split("\n")[-3:]
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    shares = {name: float(cell.rstrip(" |%")) for name, cell in list(cells.items())[2:]}
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert "mixtures |" in shares and sum(share > 0 for share in shares.values()) > 3
