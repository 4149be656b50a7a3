"""One client of one Redis that waits out an outage, says what it waits for and gives up at a deadline."""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from replay.errors import BadInput, TryAgain
from replay.shards.address import redact

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Replies of a server that cannot serve right now but may soon: its disk is full, a script holds it, it is a replica
# that waits to take over, or its cluster is not whole. A script's own error carries the code inside its text.
_PASSING = re.compile(r"\b(MISCONF|BUSY|READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS)\b")
# Of a script that its user may not run to the end.
_REFUSED = re.compile(r"The user executing the script can't|ACL failure in script")
_NO_MEMORY = re.compile(r"\bOOM\b|out of memory|used memory > 'maxmemory'")
_LONGEST_PAUSE_S = 1.0
_SLOWEST = 16.0


class NoMemory(BadInput):
    """The server's maxmemory is reached, and not by what we could drop."""


class _Health:
    """Of one server, shared by all connections of this process to it: who finds it away tells the others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away_since: float | None = None  # time.monotonic()
        self.failed_s = 0.0  # when it did not answer last
        self.slowness = 1.0  # how many times the usual silence is borne once it has greeted us
        self.warned = False  # about its durability

    def warn(self, message: str) -> None:
        """Once in a process."""
        if not self.warned:
            _log.warning("Redis at %s %s.", self.name, message)
        self.warned = True

    def away(self, doing: str, error: Exception) -> None:
        self.failed_s = time.monotonic()
        if self.away_since is None:
            self.away_since = time.monotonic()
            _log.warning("Redis at %s is away (%s): %s", self.name, doing, error)

    def slow(self) -> None:
        """It greeted us, and then was too slow for what we sent: a thin line, or a busy server."""
        self.slowness = min(2 * self.slowness, _SLOWEST)

    def back(self) -> None:
        self.slowness = max(1.0, 0.9 * self.slowness)
        since, self.away_since = self.away_since, None
        if since is not None:
            _log.warning("Redis at %s is back after %.1f s.", self.name, time.monotonic() - since)


_healths: dict[str, _Health] = {}


class Connection:
    """Commands go through `call`. They are sent again after a lost reply, so they must be idempotent."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Does not connect yet. `timeout_s` bounds the silence of the server within one attempt."""
        self.name = redact(url)
        self._timeout_s = timeout_s
        self.health = _healths.setdefault(url, _Health(self.name))
        options: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),  # retries are ours, with a deadline and a log line
            "driver_info": None,  # a user of few rights may not introduce its library
            "redis_connect_func": self._greet,
        }
        try:
            self._client: Any = redis.Redis.from_url(url, **options)
        except (ValueError, TypeError):
            raise BadInput(
                f"replay.url {self.name!r} is no Redis address.",
                "Give redis://host:port, rediss://host:port or unix:///path; other than by $NAME, a password must be "
                "percent-encoded.",
            ) from None  # the error may quote a part of the password

    def call(self, doing: str, command: Callable[[Any], _T], patience_s: float) -> _T:
        """`command(client)`, tried again for `patience_s` seconds; once, if that is 0. Raises TryAgain, or BadInput if
        Redis refuses us."""
        deadline, pause_s = time.monotonic() + patience_s, 0.05
        while True:
            try:
                reply = command(self._client)
                self.health.back()
                return reply
            except (redis.ConnectionError, redis.TimeoutError, ResponseError) as error:
                self._raise_if_final(doing, error)
                self.health.away(doing, error)
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TryAgain(
                        f"Redis at {self.name} did not answer for {patience_s:g} s ({doing}): {error}.",
                        "See that it runs, that this machine reaches it and whether it wants TLS (rediss://), then run "
                        "the same command again.",
                    ) from error
                time.sleep(min(random.uniform(0.5, 1) * pause_s, left_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def close(self) -> None:
        self._client.close()

    def _greet(self, connection: Any) -> None:
        """A refusal shows here, before a command. And what TLS 1.3 says after its handshake is read, which redis-py
        else takes for the reply to a command that it never sent. A silent server shows here too; from one that greets,
        more silence is borne when it has been slow, or a large chunk would never pass a thin line."""
        connection.on_connect()
        connection.send_command("PING")
        try:
            connection.read_response()
        except redis.TimeoutError as error:
            raise redis.ConnectionError(f"no greeting came: {error}") from error
        connection._sock.settimeout(self._timeout_s * self.health.slowness)

    def _raise_if_final(self, doing: str, error: Exception) -> None:
        """Returns if waiting may mend it."""
        if isinstance(error, AuthenticationError | NoPermissionError) or _REFUSED.search(str(error)):
            raise BadInput(
                f"Redis at {self.name} refused us ({doing}): {error}.", "Put the right user and password in replay.url."
            ) from error
        if _NO_MEMORY.search(str(error)):
            raise NoMemory(
                f"Redis at {self.name} has no memory left ({doing}).", "Raise its maxmemory, or lower replay.max_bytes."
            ) from error
        if isinstance(error, ResponseError) and not _PASSING.search(str(error)):
            raise error
        _refuse_bad_tls(self.name, error)
        if isinstance(error, redis.TimeoutError) and "connecting" not in str(error):
            self.health.slow()


def _refuse_bad_tls(name: str, error: BaseException) -> None:
    """Raises BadInput if TLS failed for a reason that waiting does not mend."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise BadInput(
            f"The certificate of Redis at {name} is not to be trusted: {cause.verify_message}.",
            "Give the authority's certificate, rediss://...?ssl_ca_certs=/path/ca.crt, and the name that it certifies.",
        ) from error
    if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        raise BadInput(
            f"Redis at {name} does not speak TLS on this port.", "Give redis://, or its TLS port."
        ) from error
