"""A simulator in an interpreter of its own: what the configuration of such an environment becomes."""

from __future__ import annotations

from typing import Any

from actors.envs.registry import EnvConfig
from actors.hosting.config import HostConfig
from actors.hosting.hosted import HostedEnv
from actors.hosting.interpreters import interpreter, variables
from actors.hosting.process import GuestSpec
from replay.errors import BadInput

FPS = 20.0  # decisions a second of all of them


def hosted_elsewhere(
    config: EnvConfig, seed: int, package: str, guest: str, arguments: dict[str, Any], host: HostConfig | None = None
) -> HostedEnv:
    """`guest` names its class in the module of the package, as "module:Class" in actors/hosting/guests. `host` is the
    configuration's unless it is given."""
    _check(config)
    view = {
        "size": config.image_size,
        "render_size": config.render_size,
        "pixels": config.pixels,
        "state": config.state,
        "seed": seed,
    }
    spec = GuestSpec(
        name=config.task,
        factory=f"actors.hosting.guests.{guest}",
        arguments=arguments | view,
        interpreter=interpreter(package),
        variables=variables(package),
    )
    return HostedEnv(spec, host or config.host)


def _check(config: EnvConfig) -> None:
    if config.pixels and config.render_size % config.image_size:
        raise BadInput(
            f"render_size {config.render_size} is no multiple of image_size {config.image_size}.",
            f"Set env.render_size to {config.image_size * max(1, round(config.render_size / config.image_size))}.",
        )
