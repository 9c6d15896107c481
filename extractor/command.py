"""What every script starts with: fields from the command line, one sentence for a user's mistake."""

import sys

import tyro

from extractor import UserError


def command_line(args):
    """The dataclass `args` with the fields that the command line names replaced: `--data.snr-db -5 10`.
    Unknown fields and values of a wrong type end the script here.
    """
    return tyro.cli(type(args), default=args, config=(tyro.conf.FlagConversionOff,))


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
