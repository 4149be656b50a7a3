"""How an action source fails. Each message names the source (its url or path) and what was waited for."""

from __future__ import annotations

from replay.errors import BadInput, DistwmError, TryAgain


class SourceAway(TryAgain):
    """Nobody can be reached there, or the connection broke more often than is allowed."""


class SourceLate(TryAgain):
    """Somebody is there and did not answer in time."""


class SourceFailed(DistwmError):
    """The source says that it cannot answer: the message ends with its own words."""


class BadAnswer(DistwmError):
    """What came is no answer: bytes that cannot be read, too many of them, or another protocol."""


class BadChunk(BadAnswer):
    """An answer whose actions have another shape or are no numbers."""


class BadKey(BadInput):
    """The server takes nobody without the right key."""
