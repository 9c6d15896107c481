"""What every script shares: its command line, one sentence for a mistake of the user, SIGTERM, what made a result."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path

import tyro

from extractor import UserError

# --- command line ----------------------------------------------------------------------------------------------------

def command_line(args, **named: Mapping[str, object]):
    """Returns the dataclass `args` with the fields replaced that the command line names: `--data.snr-db -5 10`.
    Unknown fields and values of a wrong type end the script here.

    named: by field, the objects that can be put there by name: with model=PRESETS, `--model fullband-light` puts
    PRESETS["fullband-light"] there before any field of it, such as `--model.n-fft 4096`, is replaced.
    """
    words = sys.argv[1:]
    for field, objects in named.items():
        while f"--{field}" in words:
            at = words.index(f"--{field}")
            name = words[at + 1] if at + 1 < len(words) else ""
            if name not in objects:
                raise UserError(f"--{field} {name}: give one of {', '.join(objects)}")
            args = replace(args, **{field: objects[name]})
            del words[at : at + 2]
    config = (tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands)
    choices = (f"--{field} NAME starts from one of: {', '.join(objects)}" for field, objects in named.items())
    return at_home(tyro.cli(type(args), default=args, args=words, config=config, description="; ".join(choices)))


def at_home(value):
    """Returns args, or a part of them, with the home folder in place of the ~ that a path begins with. A shell does
    that only outside of quotes."""
    if is_dataclass(value):
        return replace(value, **{f.name: at_home(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(map(at_home, value))
    return os.path.expanduser(value) if isinstance(value, str) else value


def one_sentence(kind, error, trace):
    """Prints a user's mistake as one sentence, anything else with its traceback; the exit status is 1 either way."""
    if issubclass(kind, UserError):
        print(f"error: {error}", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("stopped; run it again to go on", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold bytes that are no letters
sys.excepthook = one_sentence  # on import: the args at a script's foot are checked before its main begins


# --- told to end -----------------------------------------------------------------------------------------------------

EXIT_RESUMABLE = 75   # of a script that was told to end and can go on: EX_TEMPFAIL of sysexits.h


class Stop:
    """In `with Stop() as stop:`, `stop.asked` says whether SIGTERM has come. Only the main thread can hear it."""

    def __init__(self):
        self.asked, self.hears = False, threading.current_thread() is threading.main_thread()

    def __enter__(self):
        self.before = self.hears and signal.signal(signal.SIGTERM, self.note)
        return self

    def note(self, *_):
        self.asked = True

    def __exit__(self, *_):
        if self.hears:
            signal.signal(signal.SIGTERM, self.before)


# --- what made a result ----------------------------------------------------------------------------------------------

ALWAYS = ("torch", "numpy", "scipy", "soxr", "soundfile")


def run_info(args, folder: str | Path, packages: Iterable[str] = ()) -> dict:
    """Returns the head of a report: name of the folder, date, commit, args, and versions of packages."""
    return {
        "name": Path(folder).resolve().name,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "args": asdict(args),
        "versions": {"python": sys.version.split()[0]} | versions([*ALWAYS, *packages]),
    }


def commit() -> str | None:
    """Returns the git commit of this program, with a + where files have changed since; None without git."""
    command = "git describe --always --abbrev=40 --exclude=* --dirty=+".split()
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns package -> version, of those packages that are installed."""
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
