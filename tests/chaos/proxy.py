"""A socket between a client and Redis that fails on demand: in front of a real server, switchable while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

Mode = Literal["pass", "drop", "refuse", "half_open", "stall", "delay", "reset", "cut", "slow"]
_BLOCK = 2**16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST, and what is on its way is lost


class FaultProxy:
    """Listens on a TCP port of this machine and passes bytes on to the Redis at `target`, as its mode says:

    pass       as they come
    drop       closes every connection at once
    refuse     nobody listens
    half_open  takes bytes and answers nothing; a connection that lost bytes is closed when the mode ends
    stall      the same, but the bytes arrive after all, late, when the mode ends
    delay      every block waits `delay_s`, each way
    reset      `share` of the requests reset the connection, half of them after the server got the request
    cut        closes a connection after `cut_bytes` of requests
    slow       `bytes_per_s` each way of each connection
    """

    def __init__(self, target: str, seed: int = 0) -> None:
        """`target` is a redis:// or unix:// url."""
        self.mode: Mode = "pass"
        self.delay_s, self.share, self.cut_bytes, self.bytes_per_s = 0.5, 0.05, 100_000, 1e6
        self.faults = 0  # connections closed and blocks swallowed
        self._target, self._random = urlsplit(target), random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._open: dict[asyncio.StreamWriter, bool] = {}  # both ends of each connection -> it has lost bytes

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def set(self, mode: Mode, **options: float) -> None:
        """Changes the mode, also for connections that are open; `options` are the numbers of the class's docstring."""
        assert mode in get_args(Mode), mode
        for name, value in options.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self._run(self._switch(mode))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._server.close()
        self._close(list(self._open))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _switch(self, mode: Mode) -> None:
        before, self.mode = self.mode, mode
        if mode in ("drop", "refuse"):
            self._close(list(self._open))
        elif before == "half_open":
            self._close([end for end, lost in self._open.items() if lost])
        if mode == "refuse":
            self._server.close()
        elif before == "refuse":
            await self._listen()

    def _close(self, ends: list[asyncio.StreamWriter]) -> None:
        for end in ends:
            self._open.pop(end, None)
            raw = end.get_extra_info("socket")
            if raw is not None and raw.family == socket.AF_INET:
                with contextlib.suppress(OSError):  # it is closed already
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()
            self.faults += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "drop":
            self._close([writer])
            return
        self._open[writer] = False
        try:
            far_reader, far_writer = await self._connect()
        except OSError:
            self._close([writer])
            return
        self._open[far_writer] = False
        pair = [writer, far_writer]
        try:
            await asyncio.gather(self._requests(reader, pair), self._pass_on(far_reader, writer, pair))
        finally:
            for end in pair:
                self._open.pop(end, None)
                end.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.scheme == "unix":
            return await asyncio.open_unix_connection(unquote(self._target.path))
        return await asyncio.open_connection(self._target.hostname, self._target.port)

    async def _requests(self, reader: asyncio.StreamReader, pair: list[asyncio.StreamWriter]) -> None:
        """Client to server, with the faults that count requests."""
        passed = 0
        while block := await self._read(reader):
            passed += len(block)
            if self.mode == "cut" and passed > self.cut_bytes:
                await self._give(block[: len(block) - (passed - int(self.cut_bytes))], pair[1], pair)
                self._close(pair)
            elif self.mode == "reset" and self._random.random() < self.share:
                if self._random.random() < 0.5:
                    await self._give(block, pair[1], pair)
                    await asyncio.sleep(0.005)  # the server does its work; the answer is lost
                self._close(pair)
            else:
                await self._give(block, pair[1], pair)
        pair[1].close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: list[asyncio.StreamWriter]
    ) -> None:
        while block := await self._read(reader):
            await self._give(block, writer, pair)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        with contextlib.suppress(OSError):
            return await reader.read(_BLOCK)
        return b""

    async def _give(self, block: bytes, writer: asyncio.StreamWriter, pair: list[asyncio.StreamWriter]) -> None:
        if self.mode == "half_open":
            self._open.update({end: True for end in pair if end in self._open})
            self.faults += 1
            return
        while self.mode == "stall":
            await asyncio.sleep(0.01)
        if self.mode == "delay":
            await asyncio.sleep(self.delay_s)
        elif self.mode == "slow":
            await asyncio.sleep(len(block) / self.bytes_per_s)
        with contextlib.suppress(OSError):
            writer.write(block)
            await writer.drain()
