"""The benches: each can be started, and what those without a file of their own say."""

import runpy
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import torch
from tiny import NET

import evaluate
import models
from bench import flow_steps, step, timeline, timing
from extractor import UserError, checkpoint
from flow import Flow, FlowArgs
from fullband import FullBandArgs

BENCHES = sorted(p.stem for p in Path(timing.__file__).parent.glob("*.py") if p.stem not in ("timing", "__init__"))


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_can_be_started_and_its_help_names_every_field(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"bench.{name}", run_name="__main__")
    bench = import_module(f"bench.{name}")
    args = getattr(bench, "BenchArgs", None) or bench.RaceArgs
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and all(f"--{f.name.replace('_', '-')}" in printed for f in fields(args))


def test_works_take_turns_the_first_round_is_left_out_and_the_median_counts(monkeypatch):
    clock, done = [0.0], []
    takes = {"a": [100.0, 1.0, 5.0, 2.0], "b": [100.0, 0.5, 0.25, 8.0]}

    def work(name):
        done.append(name)
        clock[0] += takes[name][done.count(name) - 1]

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert timing.medians([lambda: work("a"), lambda: work("b")], 3) == [2.0, 0.5]
    assert done == list("abababab")


FLOW = FlowArgs(
    FullBandArgs(n_fft=256, hop=64, n_bands=20, width=16, hidden=8, n_layers=1), n_bands=20, n_fine=10, width=16,
    hidden=8, n_layers=1, steps=3,
)


def test_every_number_of_steps_is_scored_beside_the_net_that_is_refined(pairs, tmp_path, capsys):
    torch.manual_seed(0)
    net = Flow(FLOW)
    for parameter in net.denoiser.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    paths = {name: tmp_path / f"{name}.pt" for name in ("flow", "alone")}
    for path, args, weights in (
        (paths["flow"], FLOW, net.state_dict()), (paths["alone"], FLOW.predictor, net.predictor.state_dict())
    ):
        checkpoint.save(path, flow_steps.checkpoint_of(args, weights))
    out = {"pairs": str(pairs), "perceptual": False}
    found = flow_steps.main(flow_steps.BenchArgs(str(paths["flow"]), (1, 3), out_dir=str(tmp_path / "a"), **out))
    printed = capsys.readouterr().out
    scores = found["scores"]
    assert [*scores] == ["mixture", "refined", "steps_1", "steps_3"]
    for name in ("refined", "steps_1", "steps_3"):
        assert f"| {name} | " in printed.split("seconds of audio per CPU second:")[1]
    theirs = [str(path) for path in paths.values()]
    for i, (path, name) in enumerate(zip(theirs, ("steps_3", "refined"), strict=True)):
        alone = evaluate.main(evaluate.EvalArgs((path,), out_dir=str(tmp_path / f"b{i}"), page=False, **out))
        assert [*alone["scores"].values()][1] == scores[name]
    assert len({rows[0]["si_sdri"] for rows in scores.values()}) == 4


def test_what_holds_no_flow_is_refused(state, tmp_path):
    checkpoint.save(tmp_path / "best.pt", state)
    with pytest.raises(UserError, match=r"best\.pt: holds no flow; give the checkpoint of one"):
        flow_steps.main(flow_steps.BenchArgs(str(tmp_path / "best.pt")))


@pytest.mark.parametrize("operation, kind", [
    ("aten::mkldnn_rnn_layer_backward", "LSTM"), ("aten::_cudnn_rnn", "LSTM"),
    ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"), ("aten::_fft_r2c", "FFT"),
    ("aten::addmm", "products"), ("aten::native_layer_norm", "norms"), ("aten::copy_", "copies"),
    ("aten::gelu", step.REST), ("aten::mul", step.REST),
])
def test_an_operation_of_a_step_is_of_its_kind(operation, kind):
    assert step.kind_of(operation) == kind


def test_the_table_of_a_step_has_all_of_it(recordings, monkeypatch, capsys):
    monkeypatch.setitem(models.PRESETS, "dptnet-tiny", NET)
    threads = torch.get_num_threads()
    given = (f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",)
    step.main(step.BenchArgs(("dptnet-tiny",), batch=2, repeats=1, device="cpu", clean=given[0], dirty=given[1]))
    torch.set_num_threads(threads)
    head, _, row = capsys.readouterr().out.strip().split("\n")[-3:]
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    shares = {name: float(cell.rstrip(" |%")) for name, cell in list(cells.items())[2:]}
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert "mixtures |" in shares and all(shares[kind] > 0 for kind in ("LSTM", "attention", "products", "norms"))


def test_the_timeline_is_compared_with_what_is_said_by_time_and_by_its_borders():
    """Of 3 s of speech 2.5 are found, of 4 s found these 2.5 are speech. The first start is half a second late."""
    true, found = [(1.0, 2.0), (4.0, 6.0)], [(1.5, 2.0), (4.0, 6.0), (7.5, 9.0)]
    row = timeline.table(true, found, 1000).splitlines()[-1]
    assert row == "| 0.833 | 0.625 | 0.25, 0.45 | 0.00, 0.00 |"
    assert timeline.table([], found, 1000).splitlines()[-1] == "| 0.000 | 0.000 | - | - |"
