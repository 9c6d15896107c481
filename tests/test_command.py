"""What every script does with its command line and with a user's mistake."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from extractor import UserError
from extractor.command import command_line, one_sentence


@dataclass(frozen=True)
class Inner:
    snr_db: tuple[float, float] = (-5.0, 10.0)
    folders: tuple[str, ...] = ("here",)
    resample: bool = True


@dataclass(frozen=True)
class Outer:
    name: str = "speaker"
    steps: int = 1000
    inner: Inner = field(default_factory=Inner)
    rate: float = 0.5

    def __post_init__(self):
        if self.steps < 1:
            raise UserError(f"Outer.steps = {self.steps}: give at least 1")


@pytest.fixture
def parse(monkeypatch):

    def parse(args, *words: str):
        monkeypatch.setattr(sys, "argv", ["script.py", *words])
        return command_line(args)

    return parse


# ---------------------------------------------------------------------------------------------------------------------
# fields


def test_without_words_the_object_in_the_script_is_what_runs(parse):
    edited = Outer(name="alice", inner=Inner(snr_db=(0.0, 3.0)))
    assert parse(edited) == edited


def test_dotted_names_reach_nested_fields_and_the_others_stay_as_edited(parse):
    inner = ["--inner.snr-db", "-3", "7.5", "--inner.folders", "a", "b", "c", "--inner.resample", "False"]
    assert parse(Outer(name="alice", rate=0.1), "--steps", "7", *inner) == Outer(
        name="alice", rate=0.1, steps=7, inner=Inner(snr_db=(-3.0, 7.5), folders=("a", "b", "c"), resample=False)
    )


@pytest.mark.parametrize(
    "words, named",
    [
        (("--stepz", "3"), "--stepz"),
        (("--inner.snr", "3"), "--inner.snr"),
        (("--steps", "many"), "many"),
        (("--inner.snr-db", "1"), "--inner.snr-db"),
        (("--inner.resample", "perhaps"), "perhaps"),
        (("stray",), "stray"),
        (("--steps", "0"), "Outer.steps = 0: give at least 1"),
    ],
)
def test_what_is_no_field_or_no_value_is_refused_by_name(words, named, parse, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(Outer(), *words)
    assert stopped.value.code not in (0, None)
    assert named in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# mistakes

SCRIPT = """
import sys
from dataclasses import dataclass
from extractor import UserError
from extractor.command import command_line

@dataclass(frozen=True)
class Args:
    error: str

    def __post_init__(self):
        raise {"mistake": UserError, "bug": ValueError}[self.error]("clips/a.wav: 3 s; give 5 s or more")

command_line(Args(sys.argv[1]))  # as at a script's foot, where the args are edited
"""


def end_with(error: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", SCRIPT, error]
    return subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False)


def test_a_users_mistake_ends_a_script_with_one_sentence_and_status_1():
    ended = end_with("mistake")
    assert ended.stderr == "error: clips/a.wav: 3 s; give 5 s or more\n"
    assert ended.returncode == 1


def test_any_other_error_keeps_its_traceback():
    ended = end_with("bug")
    assert "Traceback (most recent call last)" in ended.stderr
    assert ended.stderr.endswith("ValueError: clips/a.wav: 3 s; give 5 s or more\n")
    assert ended.returncode == 1


def test_ctrl_c_is_no_error(capsys):
    one_sentence(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "stopped; run it again to go on\n"
