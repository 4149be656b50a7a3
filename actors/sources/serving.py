"""Serves any action source over openpi's protocol: for our client, and for openpi's own."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import http
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response

from actors.sources.batching import BatchConfig, Batcher
from actors.sources.codec import pack, unpack
from actors.sources.errors import SourceAway
from actors.sources.protocol import metadata_out, request_in
from actors.sources.source import ActionSource
from replay.errors import DistwmError, Missing

logger = logging.getLogger(__name__)
STARTED_S = 30.0  # for a server in a thread to listen, which takes milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where it listens, whom it lets in, how it batches."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    unix: str = ""  # path of a socket, instead of host and port
    api_key: str = ""  # empty: everybody may ask
    max_bytes: int = 2**25  # of a request
    close_s: float = 10.0  # for requests under way, when it stops
    batch: BatchConfig = field(default_factory=BatchConfig)


class PolicyServer:
    """Each connection asks one thing at a time; what several ask together is computed together."""

    def __init__(self, source: ActionSource, config: ServerConfig) -> None:
        """Owns neither; the caller closes the source."""
        self._source, self._config = source, config
        self._batcher = Batcher(source, config.batch, lambda: self._connected)
        self._connected = self._busy = 0
        self._stopping = False

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> bool:
        """Until `stop`; `ready` hears the url. False if a request was still under way `close_s` later.

        Raises Missing if it cannot listen there.
        """
        self._metadata = pack(metadata_out(self._source.spec))
        async with await self._listen() as server:
            self._batcher.start()
            ready(self._url(server))
            await stop.wait()
            self._stopping = True
            drained = await self._drain()
            self._batcher.stop(SourceAway("The server was stopped meanwhile.", "Start it again."))
            return drained

    async def _listen(self) -> Server:
        settings: dict[str, Any] = {
            "process_request": self._let_in,
            "compression": None,
            "max_size": self._config.max_bytes,
            "ping_timeout": None,  # a client that computes for a minute is no dead one
            "close_timeout": 1.0,
        }
        try:
            if self._config.unix:
                return await unix_serve(self._serve, self._config.unix, **settings)
            return await serve(self._serve, self._config.host, self._config.port, **settings)
        except OSError as error:
            where = self._config.unix or f"{self._config.host}:{self._config.port}"
            raise Missing(
                f"The server cannot listen at {where}: {error}.", "Choose another --port or --host."
            ) from error

    def _url(self, server: Server) -> str:
        if self._config.unix:
            return f"unix://{Path(self._config.unix).absolute()}"
        host, port = next(iter(server.sockets)).getsockname()[:2]
        return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"

    def _let_in(self, connection: ServerConnection, request: HttpRequest) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        given = request.headers.get("Authorization", "")
        wanted = f"Api-Key {self._config.api_key}"
        if self._config.api_key and not hmac.compare_digest(given.encode(), wanted.encode()):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "The key is not right.\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self._connected += 1
        try:
            await connection.send(self._metadata)
            took_s: float | None = None
            while not self._stopping:
                message = await connection.recv()
                self._busy += 1
                try:
                    took_s = await self._answer(connection, message, took_s)
                finally:
                    self._busy -= 1
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 (as openpi's server does it: told, then closed)
            await self._tell(connection, error)
        finally:
            self._connected -= 1

    async def _answer(self, connection: ServerConnection, message: str | bytes, before_s: float | None) -> float:
        """Seconds from the message to the answer. Raises what the request, or the source, has wrong with it."""
        begun = time.perf_counter()
        request = request_in(unpack(message) if isinstance(message, bytes) else message, self._source.spec)
        answer = await self._batcher.ask(request)
        timing = {"infer_ms": answer.infer_s * 1e3, "batch": answer.batch}
        if before_s is not None:
            timing["prev_total_ms"] = before_s * 1e3
        reply: dict[str, Any] = {"actions": answer.actions, "server_timing": timing}
        if answer.source_s == answer.source_s:  # it says so
            reply["policy_timing"] = {"infer_ms": answer.source_s * 1e3}
        await connection.send(pack(reply))
        return time.perf_counter() - begun

    async def _tell(self, connection: ServerConnection, error: Exception) -> None:
        """A text frame, then the farewell 1011."""
        expected = isinstance(error, DistwmError)
        words = f"{type(error).__name__}: {error}" if expected else "".join(traceback.format_exception(error))
        logger.warning("a request failed: %s", words)
        with contextlib.suppress(ConnectionClosed):
            await connection.send(words)
            await connection.close(CloseCode.INTERNAL_ERROR, "Internal server error. See the frame before.")

    async def _drain(self) -> bool:
        deadline = time.monotonic() + self._config.close_s
        while self._busy and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        return not self._busy


@contextmanager
def serving(source: ActionSource, config: ServerConfig | None = None) -> Iterator[str]:
    """A server in a thread of this process, on any free port unless the configuration has one; gives its url."""
    server = PolicyServer(source, config or ServerConfig(port=0))
    loop, stop, listening = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    url, wrong = "", None

    def ready(found: str) -> None:
        nonlocal url
        url = found
        listening.set()

    def run() -> None:
        nonlocal wrong
        try:
            loop.run_until_complete(server.run(stop, ready))
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
            wrong = error
        finally:
            listening.set()

    thread = threading.Thread(target=run, name="policy-server", daemon=True)
    thread.start()
    try:
        if not listening.wait(STARTED_S) or wrong:
            raise wrong or Missing("The server did not listen.", "Look at the machine's load.")
        yield url
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
