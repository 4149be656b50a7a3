"""The player through its real server and websocket, in a world small enough to know every pixel of."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from actors.envs.registry import EnvConfig, episode_spec
from distwm.config import RunConfig
from distwm.play.__main__ import main
from distwm.play.bench import Pace, bench
from distwm.play.server import application
from distwm.play.session import SessionConfig
from distwm.play.world import World
from replay.schema import Episode

ENV = EnvConfig(task="counting/10")


class Meter:
    """A world of one bright column, which the first action moves and which starts in the middle."""

    def reset(self, context: Episode) -> None:
        self.place = 4

    def step(self, action: np.ndarray) -> np.ndarray:
        self.place = int(np.clip(self.place + np.sign(action[0]), 0, 7))
        frame = np.zeros((8, 8, 3), np.uint8)
        frame[:, self.place] = 255
        return frame


class MeterSystem:
    def player(self, batch_size: int) -> Meter:
        return Meter()


class FaultyMeter(Meter):
    def step(self, action: np.ndarray) -> np.ndarray:
        raise ArithmeticError("the meter broke")


class FaultySystem:
    def player(self, batch_size: int) -> Meter:
        return FaultyMeter()


@pytest.fixture
def world() -> World:
    return World(config=RunConfig(env=ENV), spec=episode_spec(ENV), system=MeterSystem())


def visit(world: World, body: Callable[[TestClient[Any, Any]], Awaitable[None]], **settings: float) -> None:
    """Runs `body` against a server on a free port of 127.0.0.1."""

    async def run() -> None:
        config = SessionConfig(fps=200, context=3, **settings)  # type: ignore[arg-type]
        async with TestClient(TestServer(application(world, config), host="127.0.0.1")) as client:
            await asyncio.wait_for(body(client), timeout=30)

    asyncio.run(run())


async def column(socket: aiohttp.ClientWebSocketResponse) -> int:
    """Where the next frame has its bright column."""
    while True:
        message = await socket.receive(timeout=10)
        if message.type is aiohttp.WSMsgType.BINARY:
            return int(np.frombuffer(message.data, np.uint8).reshape(8, 8, 3)[0, :, 0].argmax())


def test_context_is_the_beginning_of_a_real_episode(world: World) -> None:
    context = world.context(seed=3, steps=4)
    assert len(context.arrays["reward"]) == 4
    assert context.arrays["is_first"].tolist() == [True, False, False, False]
    assert not context.arrays["action"][0].any()
    np.testing.assert_array_equal(context.arrays["action"], world.context(seed=3, steps=4).arrays["action"])
    assert len(world.context(seed=0, steps=99).arrays["reward"]) == 11  # ten decisions, and the episode is over


def test_actions_steer_and_a_reset_starts_again(world: World) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        async with client.ws_connect("/dream") as socket:
            assert await column(socket) == 4
            await socket.send_json({"action": [1.0] * world.actions})
            while await column(socket) < 7:
                pass
            await socket.send_json({"action": [0.0] * world.actions})
            await socket.send_json({"reset": True})
            while await column(socket) != 4:
                pass

    visit(world, body)


def test_page_and_pace(world: World) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        text = await (await client.get("/")).text()
        assert text.count('type="range"') == world.actions
        assert "counting/10" in text
        async with client.ws_connect("/dream") as socket:
            while True:
                message = await socket.receive(timeout=10)
                if message.type is aiohttp.WSMsgType.TEXT and "pace" in (found := json.loads(message.data)):
                    assert found["pace"]["fps"] > 0
                    return

    visit(world, body)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"action": "up"}', '{"action": [1,2,3,4,5,6,7,8,9]}', '{"action": [NaN]}']
)
def test_nonsense_ends_the_session(world: World, text: str) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        async with client.ws_connect("/dream") as socket:
            await socket.send_str(text)
            while (await socket.receive(timeout=10)).type is not aiohttp.WSMsgType.CLOSE:
                pass
            assert socket.close_code == 1003

    visit(world, body)


def test_a_model_that_fails_ends_the_session(world: World) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        async with client.ws_connect("/dream") as socket:
            while (await socket.receive(timeout=10)).type is not aiohttp.WSMsgType.CLOSE:
                pass
            assert socket.close_code == 1011

    visit(replace(world, system=FaultySystem()), body)


@pytest.mark.parametrize("headers", [{"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example:80"}])
def test_other_sites_are_not_let_in(world: World, headers: dict[str, str]) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        assert (await client.get("/", headers=headers)).status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await client.ws_connect("/dream", headers=headers)

    visit(world, body)


def test_who_is_away_is_let_go(world: World) -> None:
    async def body(client: TestClient[Any, Any]) -> None:
        async with client.ws_connect("/dream") as socket:
            while not socket.closed:
                await socket.receive(timeout=10)  # raises if the session is still open after 10 s without a word
            assert socket.close_code is not None

    visit(world, body, idle_s=0.3)


def test_bench_counts_its_frames(world: World) -> None:
    pace = bench(Meter(), world.context(seed=0, steps=2), frames=20)
    assert pace.frames == 20
    assert 0 < pace.p50_ms <= pace.p95_ms
    assert Pace.of([0.1] * 10).fps == pytest.approx(10)


def test_a_directory_without_a_run(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
