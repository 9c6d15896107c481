"""torch.compile in training: when told, and one sentence where it cannot be."""

from dataclasses import replace

import pytest
import torch
from tiny import tiny_run
from torch import nn

import models
import train
from extractor import UserError
from train import MainArgs, main


@pytest.fixture
def args(recordings, tmp_path) -> MainArgs:
    return tiny_run(recordings, tmp_path)


@pytest.mark.parametrize("compile", [True, False])
def test_a_run_is_compiled_when_told(compile, args, monkeypatch):
    layers = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: layers.append(self))
    main(replace(args, compile=compile))
    assert len(layers) == (len(models.FAMILIES["dptnet"].net(args.model).layers) if compile else 0)


def test_a_net_without_layers_to_compile_is_told_so(args, monkeypatch):
    monkeypatch.setattr(train, "layers_of", lambda net: [])
    with pytest.raises(UserError, match="MainArgs.compile: a dptnet net has no layers for it; leave it off"):
        main(replace(args, compile=True))


def test_a_machine_that_cannot_compile_is_told_so(args, monkeypatch):
    def fail(*_, **__):
        raise torch._dynamo.exc.TorchDynamoException("InvalidCxxCompiler: No working C++ compiler found\n\nmore")

    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: setattr(self, "forward", fail))
    expected = r"MainArgs.compile: torch.compile fails here \(InvalidCxxCompiler: No .* found\); it needs a C\+\+"
    with pytest.raises(UserError, match=expected):
        main(replace(args, compile=True))
