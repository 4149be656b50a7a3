"""A page on this machine where keys steer a dream. Nobody else is let in: it listens on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from distwm.play.page import page
from distwm.play.session import Session, SessionConfig
from distwm.play.world import World

HOST = "127.0.0.1"
NAMES = {"127.0.0.1", "localhost"}
MESSAGE_BYTES = 4096
VISITORS = 4


def application(world: World, config: SessionConfig) -> web.Application:
    """GET / is the page, GET /dream the websocket. One thread runs the model, whoever plays."""
    app = web.Application(middlewares=[_only_local])
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dream")
    sockets: set[web.WebSocketResponse] = set()

    async def index(request: web.Request) -> web.Response:
        return web.Response(text=page(world.config.env.task, world.actions), content_type="text/html")

    def elsewhere(work: Callable[[], Any]) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(thread, work)

    async def dream(request: web.Request) -> web.WebSocketResponse:
        if len(sockets) >= VISITORS:
            raise web.HTTPServiceUnavailable(text="too many dreams at once")
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=MESSAGE_BYTES)
        sockets.add(socket)
        try:
            await socket.prepare(request)
            player = await elsewhere(world.player)
            await Session(config, player, world.context, world.actions, elsewhere).run(socket)
        finally:
            sockets.discard(socket)
        return socket

    async def close(app: web.Application) -> None:
        for socket in [*sockets]:
            await socket.close(message=b"the server stops")
        thread.shutdown(wait=False, cancel_futures=True)

    app.add_routes([web.get("/", index), web.get("/dream", dream)])
    app.on_shutdown.append(close)
    return app


@web.middleware
async def _only_local(request: web.Request, handler: Any) -> web.StreamResponse:
    """Pages of other sites may not speak to us through the visitor's browser, under their name or through ours."""
    host, origin = request.host.rpartition(":")[0] or request.host, request.headers.get("Origin")
    if host not in NAMES or (origin and urlsplit(origin).netloc != request.host):
        raise web.HTTPForbidden(text="only from this machine")
    return await handler(request)
