"""Plumbing of FocusedSpeechExtractor: what you need not open to do research."""

from numbers import Integral


class UserError(ValueError):
    """What the user can put right. Its message says what, where, which limit, what to do; scripts print no more."""


def check_counts(args, *names: str):
    """Raises UserError where a field is no whole number of at least 1."""
    for name in names:
        value = getattr(args, name)
        if not isinstance(value, Integral) or value < 1:
            raise UserError(f"{type(args).__name__}.{name} = {value}: give a whole number of at least 1")
