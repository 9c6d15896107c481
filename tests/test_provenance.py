"""A result says what made it."""

import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version

import pytest

from extractor import script


@dataclass(frozen=True)
class Args:
    systems: tuple[str, ...] = ("a", "b")
    page: bool = True


@pytest.fixture
def git(tmp_path, monkeypatch):
    """The program in a repository of its own, after one commit; a function that runs git there."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "repository" / "extractor"
    folder.mkdir(parents=True)
    (folder / "script.py").write_text("print(1)\n")

    def run(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(folder.parent), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    run("init")
    run("add", ".")
    run("commit", "-m", "first")
    monkeypatch.setattr(script, "__file__", str(folder / "script.py"))
    monkeypatch.chdir(tmp_path)  # it is the program's state that counts, not that of the folder one happens to be in
    return run


def test_the_commit_is_that_of_the_program(git):
    assert script.commit() == git("rev-parse", "HEAD") and len(script.commit()) == 40


def test_a_plus_says_that_a_file_has_changed_since_and_a_new_file_is_no_change(git, tmp_path):
    (tmp_path / "repository" / "new.txt").write_text("new")
    assert script.commit() == git("rev-parse", "HEAD")
    (tmp_path / "repository" / "extractor" / "script.py").write_text("print(2)\n")
    assert script.commit() == git("rev-parse", "HEAD") + "+"
    git("add", ".")
    assert script.commit() == git("rev-parse", "HEAD") + "+"
    git("commit", "-m", "second")
    assert script.commit() == git("rev-parse", "HEAD")


def test_outside_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(script, "__file__", str(tmp_path / "script.py"))
    assert script.commit() is None


def test_without_git_there_is_no_commit(git, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert script.commit() is None


def test_versions_are_of_what_is_installed():
    found = script.versions(["numpy", "no-such-package", "mir-eval"])
    assert found == {"numpy": version("numpy"), "mir-eval": version("mir_eval")}


def test_a_report_starts_with_its_name_time_commit_arguments_and_versions(git, tmp_path, monkeypatch):
    head = script.run_info(Args(page=False), tmp_path / "results" / "alice", ["einops", "no-such-package"])
    assert head["name"] == "alice"
    assert head["args"] == {"systems": ("a", "b"), "page": False}
    assert head["commit"] == git("rev-parse", "HEAD")
    age = datetime.now().astimezone() - datetime.fromisoformat(head["date"])  # of two that know their time zone
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert head["versions"]["torch"] == version("torch") and head["versions"]["einops"] == version("einops")
    assert head["versions"]["python"].startswith("3.") and "no-such-package" not in head["versions"]


def test_a_folder_named_by_a_dot_has_the_name_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "bob").mkdir()
    monkeypatch.chdir(tmp_path / "bob")
    assert script.run_info(Args(), ".")["name"] == "bob"
