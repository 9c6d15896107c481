"""Plumbing of FocusedSpeechExtractor: what you need not open to do research."""


class UserError(ValueError):
    """What the user can put right. Its message names what, where, the limit and the remedy; scripts print nothing else."""
