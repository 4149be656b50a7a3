"""Errors that a person can mend: each names the mend and carries the exit code of the command line (see README)."""

from __future__ import annotations


class DistwmError(Exception):
    """Base of every expected failure. `mend` is one imperative sentence: what the reader should do."""

    exit_code = 1

    def __init__(self, message: str, mend: str) -> None:
        super().__init__(message, mend)  # both in args, so that the error survives a trip through Ray
        self.message, self.mend = message, mend

    def __str__(self) -> str:
        return f"{self.message} Mend: {self.mend}"


class BadInput(DistwmError):
    """Configuration or data that cannot be right."""

    exit_code = 2


class Missing(DistwmError):
    """Something is not on this machine; the mend is the command that installs it."""

    exit_code = 3


class TrainingFailed(DistwmError):
    """Training cannot go on: the budget of non-finite losses is spent, or a strict gate failed."""

    exit_code = 4


class TryAgain(DistwmError):
    """The replay or the cluster is away for now; the same command resumes."""

    exit_code = 75


class ExperienceLost(TryAgain):
    """A server came back without experience that it had acknowledged: empty, with older data, or with another set."""

    chunks = 0  # that are known to be gone
