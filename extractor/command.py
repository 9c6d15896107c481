"""What every script starts with: fields from the command line, one sentence for a user's mistake, a device."""

import ctypes
import sys

import torch
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


sys.excepthook = one_sentence  # on import: the args at a script's foot are checked before its main begins


def pick_device(name: str) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"device = {name!r}: use auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        n = torch.cuda.device_count()
        raise UserError(f"device = {name!r}, but torch {torch.__version__} sees {n} CUDA devices here: use auto or cpu")
    if device.type == "cpu":
        keep_freed_memory()
    return device


def keep_freed_memory():
    """Ask the C library to keep freed memory for reuse, where it can be asked (glibc).

    It gives every block above 32 MiB back and asks for it again, page by page, at the next step: on a CPU that is up to
    half of a training step (bench/dptnet_step.py).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
