"""What made a result: when, with which arguments, from which state of the program and of its packages."""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path

ALWAYS = ("torch", "numpy", "scipy", "soxr", "soundfile")


def of(args, folder: str | Path, packages: Iterable[str] = ()) -> dict:
    """For the head of a report that a script with these args writes to a folder."""
    return {
        "name": Path(folder).resolve().name,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "args": asdict(args),
        "versions": {"python": sys.version.split()[0]} | versions([*ALWAYS, *packages]),
    }


def commit() -> str | None:
    """Of this program; a + behind it says that files have changed since. None where there is no git."""
    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
