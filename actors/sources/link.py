"""One connection to a policy server: opened, asked within deadlines, opened again when it breaks."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect, unix_connect

from actors.sources.codec import BadFrame, unpack
from actors.sources.errors import BadAnswer, BadKey, SourceAway, SourceFailed, SourceLate
from actors.sources.source import SourceConfig
from replay.errors import BadInput

ANSWER_BYTES = 2**24  # chunks have a few thousand
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0  # between attempts to connect
SIZE, UNREADABLE, POLICY = 1009, (1002, 1003, 1007, 1009), 1008  # why a websocket was closed (RFC 6455, 7.4.1)
UNIX = "unix://"


class Link:
    """Not for several threads at a time; `close` may come from any. `welcome` sees each new connection's metadata."""

    def __init__(self, config: SourceConfig, welcome: Callable[[Any], None]) -> None:
        """Connects later. Raises BadInput if the variable of the key is not set."""
        self._config, self._welcome = config, welcome
        self.who = f"The policy server {config.url}"
        self._headers = _headers(config.api_key_env)
        self._connection: ClientConnection | None = None
        self._first = True  # nothing was answered yet on this connection
        self._closed = threading.Event()

    def open(self) -> None:
        """Harmless when it is open. Raises SourceAway, BadKey, BadInput, BadAnswer."""
        if self._connection is not None:
            return
        deadline, pause_s = time.monotonic() + self._config.connect_timeout_s, FIRST_PAUSE_S
        while not self._closed.is_set():
            try:
                self._connect(deadline)
                return
            except (OSError, InvalidHandshake, InvalidMessage, EOFError, ConnectionClosed) as error:
                why = _reason(self.who, error)
            if time.monotonic() + pause_s >= deadline:
                raise SourceAway(
                    f"{self.who} could not be reached within {self._config.connect_timeout_s:g} s: {why}.",
                    "Start it, or set source.url to where it is; source.connect_timeout_s waits longer.",
                )
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise self._gone()

    def ask(self, message: bytes) -> Any:
        """The answer, decoded. A broken connection is opened again, and the request sent again. Raises the errors of
        errors.py; after any of them the next call begins with a new connection."""
        why = ""
        for _ in range(self._config.retries + 1):
            self.open()
            try:
                return self._asked(message)
            except ConnectionClosed as error:
                self._drop()
                why = _broken(self.who, error)
            if self._closed.is_set():
                raise self._gone()
        raise SourceAway(
            f"The connection to {self.who[4:]} broke {self._config.retries + 1} times, the last time as {why}.",
            "Look at the server's log; source.retries allows more.",
        )

    def close(self) -> None:
        self._closed.set()
        self._drop()

    def _asked(self, message: bytes) -> Any:
        """Raises ConnectionClosed, SourceLate, SourceFailed, BadAnswer."""
        connection = self._connection
        if connection is None:  # closed by another thread
            raise self._gone()
        limit_s = self._config.first_timeout_s if self._first else self._config.timeout_s
        _limit_sending(connection.socket, limit_s)
        begun = time.monotonic()
        try:
            connection.send(message)
            answer = connection.recv(max(0.0, begun + limit_s - time.monotonic()), decode=None)
        except TimeoutError as error:
            self._drop()
            key = "first_timeout_s" if self._first else "timeout_s"
            raise SourceLate(
                f"{self.who} did not answer within {limit_s:g} s.",
                f"Look whether it still works (GET /healthz); source.{key} waits longer.",
            ) from error
        self._first = False
        return self._read(answer)

    def _connect(self, deadline: float) -> None:
        """Raises what the network and websockets do, BadKey, BadInput, BadAnswer, SourceFailed."""
        left_s = max(0.01, deadline - time.monotonic())
        connection = _dial(self._config, self._headers, left_s)
        self._connection, self._first = connection, True
        if self._closed.is_set():
            self._drop()
            return
        try:
            metadata = connection.recv(max(0.01, deadline - time.monotonic()), decode=None)
        except TimeoutError as error:
            self._drop()
            raise TimeoutError("it takes connections and says nothing") from error
        except ConnectionClosed as error:
            self._drop()
            _broken(self.who, error)
            raise
        try:
            self._welcome(self._read(metadata))
        except BaseException:
            self._drop()
            raise

    def _read(self, frame: str | bytes) -> Any:
        """Raises SourceFailed for a text frame, BadAnswer."""
        if isinstance(frame, str):
            self._drop()
            raise SourceFailed(
                f"{self.who} failed:\n{frame.strip()[-4000:]}",
                "Mend what it says; its own log may say more.",
            )
        try:
            return unpack(frame)
        except BadFrame as error:
            self._drop()
            raise BadAnswer(
                f"{self.who} answered with bytes that cannot be read. {error.message}", error.mend
            ) from error

    def _drop(self) -> None:
        """Without the usual farewell: a peer that is silent would not answer it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            connection.recv_events_thread.join(1.0)

    def _gone(self) -> SourceAway:
        return SourceAway(f"The connection to {self.who[4:]} was closed on our side.", "Open the source again.")


def _headers(variable: str) -> dict[str, str]:
    if not variable:
        return {}
    key = os.environ.get(variable)
    if not key:
        raise BadInput(f"The variable {variable} holds no key.", "Set it, or source.api_key_env to another than it.")
    return {"Authorization": f"Api-Key {key}"}


def _dial(config: SourceConfig, headers: dict[str, str], limit_s: float) -> ClientConnection:
    """Pings keep the way open and need no answer: a server that compiles for a minute answers nothing meanwhile."""
    settings: dict[str, Any] = {
        "compression": None,
        "additional_headers": headers,
        "open_timeout": limit_s,
        "ping_interval": config.keepalive_s or None,
        "ping_timeout": None,
        "close_timeout": 1.0,
        "max_size": ANSWER_BYTES,
        "legacy": True,
    }
    try:
        if config.url.startswith(UNIX):
            return unix_connect(config.url.removeprefix(UNIX), uri="ws://localhost/", **settings)
        return connect(config.url, proxy=None, **settings)
    except InvalidURI as error:
        raise BadInput(f"source.url={config.url} is no address.", "Write ws://HOST:PORT.") from error
    except AssertionError as error:  # of websockets itself, when the peer speaks first and is gone before we have asked
        raise ConnectionError("it hung up before it was asked") from error


def _limit_sending(peer: socket.socket, limit_s: float) -> None:
    """Or a peer that takes nothing would hold the sender for ever."""
    seconds, rest = divmod(limit_s, 1)
    with contextlib.suppress(OSError):  # it is closed, which whoever sends will hear
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(seconds), int(rest * 1e6)))


def _reason(who: str, error: Exception) -> str:
    """In words, if it may be better in a moment. Raises BadKey or BadAnswer if it will not."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status in (401, 403):
            raise BadKey(
                f"{who} refuses the key ({status}).", "Set source.api_key_env to the variable that holds the right key."
            ) from error
        if status < 500:
            raise BadAnswer(f"{who} answered with HTTP {status}.", "Give the url of a policy server.") from error
        return f"it answered with HTTP {status}"
    if isinstance(error, InvalidMessage) and not isinstance(error.__cause__, (EOFError, OSError)):
        raise BadAnswer(f"{who} is no websocket: {error.__cause__ or error}.", "Give a policy server's url.") from error
    return (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _broken(who: str, error: ConnectionClosed) -> str:
    """Why the connection is gone, if another one may do. Raises BadKey, BadAnswer or BadInput if it will not."""
    if error.sent is not None and error.sent.code in UNREADABLE and error.rcvd_then_sent is not True:
        raise BadAnswer(
            f"{who} sent what cannot be read: {error.sent.reason or error.sent.code}.", "Give a policy server's url."
        ) from error
    if error.rcvd is not None and error.rcvd.code == SIZE:
        raise BadInput(
            f"{who} takes no request of this size.", "Show smaller pictures, or let it take more."
        ) from error
    if error.rcvd is not None and error.rcvd.code == POLICY:
        raise BadKey(f"{who} refuses us: {error.rcvd.reason or POLICY}.", "Set source.api_key_env.") from error
    return str(error).rstrip(".")
