"""Checkpoints are whole at every moment, open without running anybody's code, and say what is wrong with them."""

import io
import multiprocessing
import random
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

import models
from extractor import UserError, checkpoint
from losses import LossArgs


def as_bytes(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_what_was_saved_is_loaded_by_plain_torch_without_running_code(state, tmp_path):
    checkpoint.save(tmp_path / "run" / "last.pt", state)
    loaded = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert loaded.keys() == state.keys()
    for key in ("net", "ema", "rng"):
        torch.testing.assert_close(loaded[key], state[key], rtol=0, atol=0)
    torch.testing.assert_close(loaded["optimizer"][0]["state"], state["optimizer"][0]["state"], rtol=0, atol=0)
    for key in ("family", "args", "schedule", "step", "epoch", "best", "versions"):
        assert loaded[key] == state[key]
    assert LossArgs(**loaded["args"]["loss"]) == LossArgs()  # tuples stay tuples


def test_a_loaded_net_has_the_averaged_weights_and_is_ready_to_extract(state, tmp_path):
    checkpoint.save(tmp_path / "best.pt", state)
    net, family = models.load(tmp_path / "best.pt")
    assert family is models.FAMILIES["dptnet"]
    torch.testing.assert_close(net.state_dict(), state["ema"], rtol=0, atol=0)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


class Foreign:
    """A class that only its author's code could unpickle."""


@pytest.mark.parametrize(
    "damage, sentence",
    [
        pytest.param(lambda whole: whole[: len(whole) // 2], r"damaged, or no checkpoint \(\w+\)", id="cut in half"),
        pytest.param(lambda whole: b"", r"damaged, or no checkpoint \(EOFError\)", id="empty"),
        pytest.param(lambda whole: b"no weights, just words\n", r"damaged, or no checkpoint \(\w+\)", id="text"),
        pytest.param(lambda whole: as_bytes(Foreign()), r"damaged, or no checkpoint \(UnpicklingError\)", id="code"),
        pytest.param(lambda whole: as_bytes(OrderedDict(w=torch.ones(2))), "no checkpoint of train.py", id="weights"),
        pytest.param(lambda whole: as_bytes([1, 2]), "no checkpoint of train.py", id="list"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named_in_one_sentence(damage, sentence, tmp_path):
    path = tmp_path / "best.pt"
    path.write_bytes(damage(as_bytes({"net": torch.ones(1000)})))
    with pytest.raises(UserError, match=rf"^\S+best\.pt: {sentence}") as raised:
        checkpoint.load(path)
    assert "\n" not in str(raised.value)


def test_a_missing_checkpoint_says_who_writes_one(tmp_path):
    with pytest.raises(UserError, match=r"best\.pt: there is no such checkpoint; train\.py writes runs/<name>/best"):
        checkpoint.load(tmp_path / "best.pt")


@pytest.mark.parametrize("change, words", [
    (lambda state: state.update(family="oldnet"), "holds a 'oldnet' net; this version knows .*dptnet"),
    (lambda state: state["args"]["model"].update(n_blocks=0), "written by another version .*n_blocks = 0: give"),
    (lambda state: state["args"]["model"].update(n_wheels=4) or state["versions"].update(numpy="1.2.3"),
     r"written by another version .*'numpy': '1\.2\.3'.*n_wheels"),
    (lambda state: state["ema"].pop("encoder.weight"),
     r"written by another version: encoder\.weight is nowhere there, \(\d+, .*\) here; train anew"),
    (lambda state: state["ema"].update(horse=torch.zeros(2, 3)),
     r"written by another version: horse is \(2, 3\) there, nowhere here; train anew"),
    (lambda state: state["ema"].update({"encoder.weight": torch.zeros(1, 1)}),
     r"written by another version: encoder\.weight is \(1, 1\) there, \(\d+, .*\) here; train anew"),
], ids=["family", "value", "field", "weight missing", "weight too many", "weight of another shape"])
def test_a_family_args_or_weights_of_another_version_are_named_with_the_file(change, words, state, tmp_path):
    change(state)
    checkpoint.save(tmp_path / "best.pt", state)
    with pytest.raises(UserError, match=rf"best\.pt: {words}"):
        models.load(tmp_path / "best.pt")


def step_of(path: Path) -> int:
    """The step of a checkpoint from `numbered`, after a look at every weight."""
    loaded = checkpoint.load(path)
    assert (loaded["net"]["weight"] == loaded["step"]).all()
    return loaded["step"]


def numbered(step: int) -> dict:
    """400 kB, every weight the step's number."""
    return {"family": "", "args": {}, "net": {"weight": torch.full((100_000,), float(step))}, "ema": {}, "step": step}


def save_without_end(path: Path, ready):
    step = step_of(path)
    ready.set()
    while True:
        checkpoint.save(path, numbered(step := step + 1))


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, numbered(0))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["models", "pytest"])
    moments = random.Random(0)
    steps = [0]
    for _ in range(10):
        ready = context.Event()
        process = context.Process(target=save_without_end, args=(path, ready))
        process.start()
        assert ready.wait(60)
        time.sleep(moments.uniform(0.01, 0.05))
        process.kill()
        process.join()
        steps.append(step_of(path))
    assert steps == sorted(steps) and steps[-1] > 0
