"""torch.compile in training: where trial steps find it faster, and remembered."""

import time
from dataclasses import replace

import pytest
import torch
from tiny import tiny_run

import models
import train
from extractor import UserError, checkpoint, fit
from extractor.fit import Step
from extractor.parallel import Backward
from train import MainArgs, main

CPU = torch.device("cpu")


@pytest.fixture
def args(recordings, tmp_path) -> MainArgs:
    return tiny_run(recordings, tmp_path)


@pytest.fixture
def compiling(monkeypatch):
    """compiling(s): trial steps take 1 s, compiled ones s; returns whether each Backward since is compiled."""
    def compiling(seconds: float) -> list[bool]:
        seen = []

        class Noted(Backward):
            def __init__(self, *given, compiled=False):
                seen.append(bool(compiled))
                super().__init__(*given)

        monkeypatch.setattr(train, "Backward", Noted)
        monkeypatch.setattr(
            fit, "step_of", lambda *_, compiled=False: Step(0, 0, seconds if compiled else 1.0)
        )
        return seen
    return compiling


@pytest.mark.parametrize("seconds, expected, said", [(0.5, True, "0.500 s instead of 1.000\n"),
                                                     (1.5, False, "1.500 s instead of 1.000: left off\n")])
def test_a_run_is_compiled_where_that_is_faster_and_goes_on_as_it_began(
    seconds, expected, said, args, compiling, capsys, monkeypatch
):
    seen = compiling(seconds)
    main(replace(args, compile=True))
    assert seen == [expected] and f"compiled, a step takes {said}" in capsys.readouterr().out
    seen = compiling(1 / seconds)  # another time it would be measured otherwise
    main(replace(args, compile=True, steps=7))
    assert seen == [expected] and "compiled, a step" not in capsys.readouterr().out
    main(replace(args, compile=False, steps=8))
    assert seen[1:] == [False]
    monkeypatch.setattr(train.platform, "node", lambda: "another machine")
    main(replace(args, compile=True, steps=9))
    assert seen[2:] == [not expected] and "compiled, a step" in capsys.readouterr().out
    older = checkpoint.load(args.folder / "last.pt") | {"compiled": expected}
    checkpoint.save(args.folder / "last.pt", older)
    main(replace(args, compile=True, steps=10))
    assert seen[3:] == [not expected]


def test_a_net_without_layers_to_compile_is_told_so(args, monkeypatch):
    monkeypatch.setattr(train, "layers_of", lambda net: [])
    with pytest.raises(UserError, match="MainArgs.compile: a dptnet net has no layers for it; leave it off"):
        main(replace(args, compile=True))


def test_a_machine_that_cannot_compile_is_told_so(args, monkeypatch):
    def measured(*_, compiled=False):
        if compiled:
            raise torch._dynamo.exc.TorchDynamoException("InvalidCxxCompiler: No working C++ compiler found\n\nmore")
        return Step(0, 0, 1.0)

    monkeypatch.setattr(fit, "step_of", measured)
    expected = r"MainArgs.compile: torch.compile fails here \(InvalidCxxCompiler: No .* found\); it needs a C\+\+"
    with pytest.raises(UserError, match=expected):
        main(replace(args, compile=True))


def test_a_compiled_step_is_timed_without_the_compiling(args, threads, monkeypatch):
    threads(1)
    calls = []

    class Timed(Backward):
        def __init__(self, net, device, n, *, compiled=False):
            super().__init__(net, device, n)
            self.compiled = compiled

        def __call__(self, *given):
            calls.append(self.compiled)
            time.sleep(0.3 if calls.count(True) == 1 else 0)
            return super().__call__(*given)

    monkeypatch.setattr(fit, "Backward", Timed)
    family = models.FAMILIES["dptnet"]
    step = fit.step_of(args, 2, train.loss_function(args, family, CPU), family.net(args.model), CPU, compiled=True)
    assert calls[:2] == [False, True] and all(calls[1:]) and step.seconds < 0.3  # the item's memory is the plain net's
