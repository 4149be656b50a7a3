"""A policy server as openpi writes them: it blocks its loop while it infers, and batches nothing. Also a program,
`python openpi_server.py BEHAVIOUR PORT`, for interpreters that have openpi-client: then the codec is openpi's own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import websockets
import websockets.asyncio.server as server

try:
    from openpi_client import msgpack_numpy as codec

    pack, unpack = codec.packb, codec.unpackb
except ImportError:
    from actors.sources.codec import pack, unpack


def infer(seen: dict[str, Any]) -> dict[str, Any]:
    """Actions in which all of the observation is."""
    assert set(seen) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}, sorted(seen)
    assert seen["observation/image"].shape == seen["observation/wrist_image"].shape == (224, 224, 3)
    total = float(seen["observation/image"].mean() + 2 * seen["observation/wrist_image"].mean()) + len(seen["prompt"])
    row = np.asarray(seen["observation/state"][:7], np.float64) + total / 1024
    return {"actions": row + np.arange(10)[:, None], "policy_timing": {"infer_ms": 0.25}}


class Policy:
    """`behaviour` is "echo", "still", or what goes wrong, perhaps with a number: "block 3", "text", "huge" ..."""

    def __init__(self, behaviour: str) -> None:
        self.what, _, number = behaviour.partition(" ")
        self.number, self.asked = float(number or 0), 0

    async def handle(self, connection: server.ServerConnection) -> None:
        await connection.send("no model" if self.what == "unready" else pack({"policy": "echo"}))
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                message = await connection.recv()
                self.asked += 1
                try:
                    await connection.send(self.answer(unpack(message)))
                except (AssertionError, ZeroDivisionError):
                    await connection.send(traceback.format_exc())
                    await connection.close(1011, "Internal server error. Traceback included in previous frame.")
                    return
                if self.what == "drop" and self.asked % 2:
                    connection.transport.abort()

    def answer(self, seen: dict[str, Any]) -> bytes:
        if self.what == "block" and self.asked == 1:
            time.sleep(self.number)  # the loop too, as jax does when it compiles
        if self.what == "text":
            raise ZeroDivisionError("the policy is unwell")
        if self.what in ("garbage", "huge"):
            return b"\xc1garbage" if self.what == "garbage" else bytes(2**24 + 1)
        found = {"actions": np.zeros((10, 7), np.float32)} if self.what == "still" else infer(seen)
        if self.what == "nan":
            found["actions"][3, 2] = np.nan
        if self.what == "short":
            found["actions"] = found["actions"][:4]
        if self.what == "words":
            found["actions"] = "left, then right"
        return pack({"state": 0} if self.what == "nothing" else found)


async def run(behaviour: str, port: int, ready: Any, stop: asyncio.Event) -> None:
    policy = Policy(behaviour)
    async with server.serve(policy.handle, "127.0.0.1", port, compression=None, max_size=None) as listening:
        ready(next(iter(listening.sockets)).getsockname()[1])
        await stop.wait()


@contextlib.contextmanager
def openpi_server(behaviour: str, port: int = 0) -> Iterator[str]:
    """In a thread; gives the url."""
    loop, stop, listening = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    ports: list[int] = []

    def ready(found: int) -> None:
        ports.append(found)
        listening.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run(behaviour, port, ready, stop)))
    thread.start()
    try:
        assert listening.wait(30)
        yield f"ws://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), lambda port: print(port, flush=True), asyncio.Event()))
