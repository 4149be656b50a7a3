"""`python -m actors.sources.server SOURCE [key=value ...]`: serves a local action source over openpi's websocket
protocol, so that it can live on another machine than the environments."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from actors.sources.batching import BatchConfig
from actors.sources.serving import PolicyServer, ServerConfig
from actors.sources.source import ActionSource, SourceConfig
from replay.errors import BadInput, DistwmError

EPILOG = """\
SOURCE is scripted, recorded or lerobot, with the keys of `source` in a run as key=value (path=DIR horizon=10), or
MODULE:FUNCTION, which is called with the same words as arguments and gives an action source. Those who ask:
source.kind=openpi source.url=ws://HOST:PORT, and openpi's own client.

What several clients ask within --max-wait-ms is computed together. GET /healthz says OK, without a key. A request that
fails is answered by a text frame, and its connection closed with 1011. SIGTERM answers what is under way and stops.

exit codes: 0 stopped; 2 bad configuration or input; 3 something is missing on this machine (the message says how to
install it), or the port is taken; 130, 143 stopped by a signal before it served.

examples:
  python -m actors.sources.server scripted --task libero/libero_spatial/0 --port 8000
  python -m actors.sources.server recorded path=demos/ format=libero horizon=10 --host 0.0.0.0 --api-key-env POLICY_KEY
  python -m actors.sources.server lerobot path=checkpoints/pi05_libero --port 8000
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""
    given = _parser().parse_intermixed_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        config = _server_config(given)
        source = _open(given.source, _settings(given.settings), given.task)
        try:
            if not asyncio.run(_serve(source, config)):
                sys.stderr.write("distwm: stopped while a request was under way\n")
        finally:
            source.close()
        return 0
    except DistwmError as error:
        if os.environ.get("DISTWM_DEBUG"):
            raise
        sys.stderr.write(f"distwm: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


async def _serve(source: ActionSource, config: ServerConfig) -> bool:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def ready(url: str) -> None:
        sys.stdout.write(f"serves at {url}: {source.spec.provenance}\n")
        sys.stdout.flush()

    return await PolicyServer(source, config).run(stop, ready)


def _open(name: str, settings: dict[str, str], task: str) -> ActionSource:
    """Raises BadInput, and what its making raises."""
    if ":" in name:
        module, _, function = name.partition(":")
        try:
            factory: Callable[..., ActionSource] = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise BadInput(f"There is no source {name}: {error}.", "Name it as module:function.") from error
        return factory(**settings)
    from actors.envs.registry import EnvConfig  # not in interpreters of other packages
    from actors.sources.opening import open_source

    return open_source(_cast(name, settings), EnvConfig(task=task) if task else EnvConfig())


def _cast(kind: str, settings: dict[str, str]) -> SourceConfig:
    """Raises BadInput for unknown keys, and values of another type."""
    types: dict[str, Any] = {one.name: type(one.default) for one in fields(SourceConfig)}
    if unknown := sorted(settings.keys() - types.keys()):
        raise BadInput(f"A source has no key {unknown[0]!r}.", f"Choose of: {', '.join(sorted(types))}.")
    found: dict[str, Any] = {"kind": kind}
    for key, text in settings.items():
        try:
            found[key] = types[key](text)
        except ValueError as error:
            raise BadInput(f"{key}={text} is no {types[key].__name__}.", "Write a number.") from error
    return SourceConfig(**found)


def _settings(words: Sequence[str]) -> dict[str, str]:
    if wrong := [word for word in words if "=" not in word]:
        raise BadInput(f"{wrong[0]!r} is no setting.", "Write key=value.")
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _server_config(given: argparse.Namespace) -> ServerConfig:
    key = os.environ.get(given.api_key_env, "") if given.api_key_env else ""
    if given.api_key_env and not key:
        raise BadInput(f"The variable {given.api_key_env} holds no key.", "Set it, or leave --api-key-env out.")
    return ServerConfig(
        host=given.host,
        port=given.port,
        unix=given.unix,
        api_key=key,
        max_bytes=given.max_mb << 20,
        close_s=given.close_s,
        batch=BatchConfig(max_batch=given.max_batch, max_wait_ms=given.max_wait_ms),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m actors.sources.server",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="see below")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="of the source")
    parser.add_argument("--task", default="", help="suite/task that a scripted source plays")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1; 0.0.0.0 lets others in: set a key")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0 for any free one")
    parser.add_argument("--unix", default="", metavar="PATH", help="a socket of the file system instead")
    parser.add_argument(
        "--api-key-env", default="", metavar="NAME", help="variable that holds the key clients must send"
    )
    parser.add_argument("--max-batch", type=int, default=16, help="requests computed together; default 16")
    parser.add_argument("--max-wait-ms", type=float, default=5.0, help="for others to come along; default 5")
    parser.add_argument("--max-mb", type=int, default=32, help="of a request; default 32")
    parser.add_argument("--close-s", type=float, default=10.0, help="for requests under way at the end; default 10")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
