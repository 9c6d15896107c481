"""The benches: each can be started, works take turns, and the steps of a flow are scored side by side."""

import runpy
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import torch

import evaluate
from bench import flow_steps, timing
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


# ---------------------------------------------------------------------------------------------------------------------
# numbers of steps of a flow

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
