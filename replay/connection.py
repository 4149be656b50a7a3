"""One client of one Redis that waits out an outage, says what it waits for and gives up at a deadline."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from replay.errors import BadInput, TryAgain

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Replies of a server that cannot serve right now but may soon: its disk is full, or a script holds it. A script's own
# error carries the code inside its text.
_PASSING = re.compile(r"\b(MISCONF|BUSY)\b")


def redact(url: str) -> str:
    """The url without its password and its query, for logs and messages."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at and ":" in user:
        user = user.partition(":")[0] + ":***"
    return urlunsplit((parts.scheme, user + at + host, parts.path, "", ""))


class Connection:
    """Commands go through `call`. They are sent again after a lost reply, so they must be idempotent."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Does not connect yet. `timeout_s` bounds the silence of the server within one attempt."""
        self.name = redact(url)
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),  # retries are ours, with a deadline and a log line
        }
        try:
            self._client: Any = redis.Redis.from_url(url, **options)
        except (ValueError, TypeError) as error:
            raise BadInput(
                f"replay.url {self.name!r} is no Redis address: {error}.",
                "Give redis://host:port, rediss://host:port or unix:///path.",
            ) from error

    def call(self, doing: str, command: Callable[[Any], _T], patience_s: float) -> _T:
        """`command(client)`, tried again for `patience_s` seconds. Raises TryAgain, or BadInput if Redis refuses us."""
        deadline, pause_s, away = time.monotonic() + patience_s, 0.05, False
        while True:
            try:
                return command(self._client)
            except (AuthenticationError, NoPermissionError) as error:
                raise BadInput(
                    f"Redis at {self.name} refused us ({doing}): {error}.",
                    "Put the right user and password in replay.url.",
                ) from error
            except (redis.ConnectionError, redis.TimeoutError, ResponseError) as error:
                if isinstance(error, ResponseError) and not _PASSING.search(str(error)):
                    raise
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TryAgain(
                        f"Redis at {self.name} did not answer for {patience_s:g} s ({doing}): {error}.",
                        "See that it runs and that this machine reaches it, then run the same command again.",
                    ) from error
                if not away:
                    _log.warning("Redis at %s is away (%s): %s. Trying for %.0f s.", self.name, doing, error, left_s)
                    away = True
                time.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, 1.0)

    def close(self) -> None:
        self._client.close()
