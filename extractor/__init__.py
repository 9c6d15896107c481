"""Plumbing of FocusedSpeechExtractor: what you need not open to do research."""


class UserError(ValueError):
    """What the user can put right. Its message says what, where, which limit, what to do; scripts print no more."""
