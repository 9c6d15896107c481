"""What every script starts with: fields from the command line, one sentence for a user's mistake."""

import sys
from collections.abc import Mapping
from dataclasses import replace

import tyro

from extractor import UserError


def command_line(args, **named: Mapping[str, object]):
    """The dataclass `args` with the fields that the command line names replaced: `--data.snr-db -5 10`.
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
    return tyro.cli(type(args), default=args, args=words, config=config, description="; ".join(choices))


def one_sentence(kind, error, trace):
    """A user's mistake as one sentence, anything else with its traceback; the exit status is 1 either way."""
    if issubclass(kind, UserError):
        print(f"error: {error}", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("stopped; run it again to go on", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold bytes that are no letters
sys.excepthook = one_sentence  # on import: the args at a script's foot are checked before its main begins
