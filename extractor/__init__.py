"""Plumbing of FocusedSpeechExtractor: what you need not open to do research."""

import math
from dataclasses import fields
from numbers import Integral
from os import PathLike, fspath


class UserError(ValueError):
    """A mistake that the user can put right. The message says what, where, which limit and what to do; scripts print
    nothing else. `path`: the file that it is about, which stands before the reason; None if it is about no file."""

    def __init__(self, reason: str, path: str | PathLike | None = None):
        super().__init__(reason if path is None else f"{fspath(path)}: {reason}")
        self.reason, self.path = reason, path


def require(args, name: str, holds: bool, remedy: str):
    """Raises UserError, with the value of the field `name` and the remedy, where a condition on it does not hold."""
    if not holds:
        raise UserError(f"{type(args).__name__}.{name} = {getattr(args, name)!r}: {remedy}")


def check_counts(args, *names: str):
    """Raises UserError where a field is no whole number of at least 1."""
    for name in names:
        value = getattr(args, name)
        require(args, name, isinstance(value, Integral) and value >= 1, "give a whole number of at least 1")


def check_shares(args):
    """Raises UserError where a field that is called p_... is no share, 0 to 1."""
    for name in (f.name for f in fields(args) if f.name.startswith("p_")):
        require(args, name, 0 <= getattr(args, name) <= 1, "give a share, 0 to 1")


def check_limits(args, name: str, least: float = -math.inf, most: float = math.inf):
    """Raises UserError where a field is no lower and upper limit, in this order, between `least` and `most`."""
    low, high = getattr(args, name)
    require(args, name, least <= low <= high <= most, f"give two numbers in order, each from {least:g} to {most:g}")
