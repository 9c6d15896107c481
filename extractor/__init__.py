"""Plumbing of FocusedSpeechExtractor: what you need not open to do research."""

from numbers import Integral
from os import PathLike, fspath


class UserError(ValueError):
    """A mistake that the user can put right. The message says what, where, which limit and what to do; scripts print
    nothing else. `path`: the file that it is about, which stands before the reason; None if it is about no file."""

    def __init__(self, reason: str, path: str | PathLike | None = None):
        super().__init__(reason if path is None else f"{fspath(path)}: {reason}")
        self.reason, self.path = reason, path


def check_counts(args, *names: str):
    """Raises UserError where a field is no whole number of at least 1."""
    for name in names:
        value = getattr(args, name)
        if not isinstance(value, Integral) or value < 1:
            raise UserError(f"{type(args).__name__}.{name} = {value}: give a whole number of at least 1")
