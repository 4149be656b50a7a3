"""Errors that a person can mend, for interpreters that lack ours: the host raises them by these names."""

from __future__ import annotations


class Expected(Exception):
    """`mend` is one imperative sentence."""

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message)
        self.message, self.mend = message, mend


class BadInput(Expected):
    pass


class Missing(Expected):
    pass
