"""LIBERO: `libero/<suite>/<n>`, 130 tasks of a robot arm at a table (Liu et al. 2023, arXiv 2306.03310).

The environment itself lives in another interpreter: actors/hosting/guests/libero.py describes its fields.
"""

from __future__ import annotations

import os
from pathlib import Path

from actors.envs.elsewhere import FPS, hosted_elsewhere
from actors.envs.registry import EnvConfig, limit_steps, unknown
from actors.hosting.hosted import HostedEnv

HOSTED = True

# Tasks, and decisions after which an episode is over: a little more than the longest demonstration, as OpenVLA's and
# openpi's evaluations have it.
SUITES = {
    "libero_spatial": (10, 220),
    "libero_object": (10, 280),
    "libero_goal": (10, 300),
    "libero_10": (10, 520),
    "libero_90": (90, 400),
}


def tasks() -> list[str]:
    return [f"{suite}/{number}" for suite, (count, _) in SUITES.items() for number in range(count)]


def make(config: EnvConfig, seed: int) -> HostedEnv:
    name = config.task.partition("/")[2]
    if name not in tasks():
        raise unknown("LIBERO task", name, tasks())
    suite, _, number = name.partition("/")
    arguments = {
        "suite": suite,
        "number": int(number),
        "assets": str(assets(config)),
        "max_steps": limit_steps(config, FPS, SUITES[suite][1]),
    }
    return hosted_elsewhere(config, seed, "libero", "libero:Libero", arguments)


def assets(config: EnvConfig) -> Path:
    """The folder of meshes and textures, which no package brings; what is missing in it is said when it is used."""
    return Path(config.assets or os.environ.get("DISTWM_LIBERO_ASSETS", "")).expanduser().absolute()
