"""What every script does with its command line and with a user's mistake; what made a result."""

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from extractor import UserError, script
from extractor.script import command_line, one_sentence

ROOT = Path(__file__).parent.parent


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


@dataclass(frozen=True)
class Round:
    radius: int = 1


@dataclass(frozen=True)
class Square:
    side: int = 2
    corner: Round = field(default_factory=Round)


@dataclass(frozen=True)
class Drawing:
    name: str = "speaker"
    shape: Round | Square = field(default_factory=Round)


SHAPES = {"dot": Round(0), "tile": Square(10)}


@pytest.fixture
def parse(monkeypatch):
    def parse(args, *words: str, **named):
        monkeypatch.setattr(sys, "argv", ["script.py", *words])
        return command_line(args, **named)

    return parse


# ---------------------------------------------------------------------------------------------------------------------
# fields


def test_dotted_names_reach_nested_fields_and_the_others_stay_as_edited_in_the_script(parse):
    edited = Outer(name="alice", inner=Inner(snr_db=(0.0, 3.0)))
    assert parse(edited) == edited
    inner = ["--inner.snr-db", "-3", "7.5", "--inner.folders", "a", "b", "c", "--inner.resample", "False"]
    assert parse(edited, "--steps", "7", *inner) == Outer(
        name="alice", steps=7, inner=Inner(snr_db=(-3.0, 7.5), folders=("a", "b", "c"), resample=False)
    )


def test_a_tilde_in_any_field_is_the_home_folder(parse, monkeypatch):
    monkeypatch.setenv("HOME", "/home/alice")
    args = parse(Outer(), "--name", "~/night", "--inner.folders", "~/a", "b~c", "~")
    assert (args.name, args.inner.folders) == ("/home/alice/night", ("/home/alice/a", "b~c", "/home/alice"))


@pytest.mark.parametrize("words, named", [
    (("--stepz", "3"), "--stepz"),
    (("--inner.snr", "3"), "--inner.snr"),
    (("--steps", "many"), "many"),
    (("--inner.snr-db", "1"), "--inner.snr-db"),
    (("--inner.resample", "perhaps"), "perhaps"),
    (("stray",), "stray"),
    (("--steps", "0"), "Outer.steps = 0: give at least 1"),
])
def test_what_is_no_field_or_no_value_is_refused_by_name(words, named, parse, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(Outer(), *words)
    assert stopped.value.code not in (0, None)
    assert named in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# objects put in place by name


@pytest.mark.parametrize("words, expected", [
    ((), Drawing()),
    (("--shape.radius", "3"), Drawing(shape=Round(3))),
    (("--shape", "tile"), Drawing(shape=Square(10))),
    (("--name", "a", "--shape", "tile", "--shape.corner.radius", "4"), Drawing("a", Square(10, Round(4)))),
    (("--shape.side", "7", "--shape", "tile"), Drawing(shape=Square(7))),
    (("--shape", "tile", "--shape", "dot"), Drawing(shape=Round(0))),
])
def test_a_name_puts_an_object_of_another_class_there_and_its_fields_can_be_replaced(words, expected, parse):
    assert parse(Drawing(), *words, shape=SHAPES) == expected


@pytest.mark.parametrize("words", [("--shape", "disc"), ("--shape",)])
def test_a_name_that_nobody_has_is_refused_with_those_there_are(words, parse):
    with pytest.raises(UserError, match=f"--shape {words[-1] if len(words) > 1 else ''}: give one of dot, tile"):
        parse(Drawing(), *words, shape=SHAPES)


def test_help_says_the_names_and_the_fields_of_what_is_there(parse, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Drawing(), "--shape", "tile", "--help", shape=SHAPES)
    out = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "--shape NAME starts from one of: dot, tile" in out and "--shape.side" in out


def test_a_field_of_a_class_that_is_not_there_is_refused(parse, capsys):
    with pytest.raises(SystemExit):
        parse(Drawing(), "--shape.side", "3", shape=SHAPES)
    assert "--shape.side" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# mistakes

SCRIPT = """
import sys
from dataclasses import dataclass
from extractor import UserError
from extractor.script import command_line

@dataclass(frozen=True)
class Args:
    error: str

    def __post_init__(self):
        raise {"mistake": UserError, "bug": ValueError}[self.error]("clips/a.wav: 3 s; give 5 s or more")

command_line(Args(sys.argv[1]))  # as at a script's foot, where the args are edited
"""


@pytest.mark.parametrize("error, last_line", [
    ("mistake", "error: clips/a.wav: 3 s; give 5 s or more\n"),
    ("bug", "ValueError: clips/a.wav: 3 s; give 5 s or more\n"),
])
def test_a_users_mistake_ends_a_script_with_one_sentence_and_status_1_any_other_error_with_its_traceback(
    error, last_line
):
    ended = subprocess.run([sys.executable, "-c", SCRIPT, error], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 1 and ended.stderr.endswith(last_line)
    assert ("Traceback" in ended.stderr) == (error == "bug") and (ended.stderr == last_line) == (error == "mistake")


def test_ctrl_c_is_no_error(capsys):
    one_sentence(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "stopped; run it again to go on\n"


# ---------------------------------------------------------------------------------------------------------------------
# what made a result


@pytest.fixture
def program(tmp_path, monkeypatch):
    """extractor/script.py of a program that lies elsewhere. It is the program's state that counts, not that of the
    folder one happens to be in."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which the program replaces
    (tmp_path / "program").mkdir()
    path = shutil.copy(ROOT / "extractor" / "script.py", tmp_path / "program")
    spec = importlib.util.spec_from_file_location("script_elsewhere", path)
    spec.loader.exec_module(found := importlib.util.module_from_spec(spec))
    return found


def test_the_commit_has_a_plus_where_a_file_has_changed_since_and_a_new_file_is_no_change(program, monkeypatch):
    path = Path(program.__file__)

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(path.parent), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert program.commit() is None  # outside git
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert program.commit() == git("rev-parse", "HEAD") and len(program.commit()) == 40
    (path.parent / "new.txt").write_text("new")
    assert program.commit() == git("rev-parse", "HEAD")
    path.write_text("print(2)\n")
    assert program.commit() == git("rev-parse", "HEAD") + "+"
    git("add", ".")
    assert program.commit() == git("rev-parse", "HEAD") + "+"
    git("commit", "-m", "second")
    assert program.commit() == git("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(path.parent))
    assert program.commit() is None  # without git


def test_a_report_starts_with_its_name_time_commit_arguments_and_versions_of_what_is_installed(tmp_path, monkeypatch):
    (tmp_path / "alice").mkdir()
    monkeypatch.chdir(tmp_path / "alice")
    head = script.run_info(Inner(resample=False), ".", ["mir-eval", "no-such-package"])
    assert head["name"] == "alice" and head["commit"] == script.commit()
    assert head["args"] == {"snr_db": (-5.0, 10.0), "folders": ("here",), "resample": False}
    age = datetime.now().astimezone() - datetime.fromisoformat(head["date"])  # of two that know their time zone
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert head["versions"]["torch"] == version("torch") and head["versions"]["mir-eval"] == version("mir_eval")
    assert head["versions"]["python"].startswith("3.") and "no-such-package" not in head["versions"]
