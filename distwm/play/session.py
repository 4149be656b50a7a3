"""One visitor of the page: takes actions from a websocket, sends dreamt frames at a steady pace."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from aiohttp import WSMsgType, web

from distwm.play.bench import Pace
from distwm.play.world import Player
from replay.schema import Episode

T = TypeVar("T")
Elsewhere = Callable[[Callable[[], T]], Awaitable[T]]  # runs work in the thread that owns the model

REPORT_FRAMES = 10  # between two reports of the pace


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConfig:
    fps: float = 15.0  # frames sent; fewer if the model is slower
    context: int = 8  # true frames that a dream begins with
    seed: int = 0  # of the first start state; each new dream takes the next one
    idle_s: float = 600.0  # without a message, before the session ends


class Session:
    """Messages in: {"action": [A numbers]} or {"reset": true}. Out: frames as raw RGB bytes, and JSON about them."""

    def __init__(
        self,
        config: SessionConfig,
        player: Player,
        context: Callable[[int, int], Episode],
        actions: int,
        elsewhere: Elsewhere[Any],
    ) -> None:
        self.config, self.player, self.context, self.elsewhere = config, player, context, elsewhere
        self.action = np.zeros(actions, np.float32)
        self.seed = config.seed
        self.begun = False
        self.heard_s = time.monotonic()

    async def run(self, socket: web.WebSocketResponse) -> None:
        """Until the visitor leaves, sends nonsense or has been away for `idle_s`. Raises what the model raises."""
        dreaming = asyncio.create_task(self._dream(socket))
        dreaming.add_done_callback(lambda _: asyncio.ensure_future(socket.close(code=1011, message=b"the dream ended")))
        try:
            async for message in socket:
                self.heard_s = time.monotonic()
                if message.type is not WSMsgType.TEXT or not self._take(message.data):
                    await socket.close(code=1003, message=b"expected an action or a reset")
        finally:
            dreaming.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):  # nobody listens any more
                await dreaming

    def _take(self, text: str) -> bool:
        """Whether a message makes sense."""
        try:
            message = json.loads(text)
            if message.get("reset"):
                self.begun = False
                return True
            action = np.asarray(message["action"], np.float32)
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
        if action.shape != self.action.shape or not np.isfinite(action).all():
            return False
        self.action = action.clip(-1, 1)
        return True

    async def _dream(self, socket: web.WebSocketResponse) -> None:
        times: deque[float] = deque(maxlen=100)
        number = 0
        while time.monotonic() - self.heard_s < self.config.idle_s:
            due = time.monotonic() + 1 / self.config.fps
            if not self.begun:
                await socket.send_json({"start": self.seed})
                await self.elsewhere(self._begin)
            frame, seconds = await self.elsewhere(self._step)
            times.append(seconds)
            if number == 0:
                await socket.send_json({"height": frame.shape[0], "width": frame.shape[1]})
            await socket.send_bytes(frame.tobytes())
            number += 1
            if number % REPORT_FRAMES == 0:
                await socket.send_json({"pace": asdict(Pace.of(times))})
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await socket.close(message=b"idle")

    def _begin(self) -> None:
        self.begun = True
        self.player.reset(self.context(self.seed, self.config.context))
        self.seed += 1

    def _step(self) -> tuple[np.ndarray, float]:
        begun = time.perf_counter()
        frame = np.ascontiguousarray(self.player.step(self.action), np.uint8)
        return frame, time.perf_counter() - begun
