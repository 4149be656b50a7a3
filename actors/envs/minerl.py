"""MineRL 0.4.4: `minerl/<task>`, and `minerl/<task>@vpt` with the actions of VPT and of MineRL 1.0: keys and a camera.

The environment itself lives in another interpreter: actors/hosting/guests/minerl.py describes its fields. The game that
it plays comes with no package; without it there are the spaces, and Missing at the first reset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from actors.data.camera import BINS, to_degrees
from actors.data.vpt_actions import BUTTONS
from actors.envs.elsewhere import FPS, hosted_elsewhere
from actors.envs.registry import EnvConfig, limit_steps, unknown, variants
from actors.hosting.hosted import HostedEnv

HOSTED = True
VARIANTS = ("vpt",)

_CHOP = "chop trees for 64 logs"
_FIND = "find the diamond block near where the compass points"
_DIAMOND, _PICKAXE = "obtain a diamond, beginning with nothing", "craft an iron pickaxe, beginning with nothing"
# Limits in decisions, as the package has them, and the task in words.
TASKS: Mapping[str, tuple[int, str]] = {
    "Treechop": (8000, _CHOP),
    "Navigate": (6000, _FIND),
    "NavigateDense": (6000, _FIND),
    "NavigateExtreme": (6000, f"{_FIND}, in extreme hills"),
    "NavigateExtremeDense": (6000, f"{_FIND}, in extreme hills"),
    "ObtainDiamond": (18000, _DIAMOND),
    "ObtainDiamondDense": (18000, _DIAMOND),
    "ObtainIronPickaxe": (6000, _PICKAXE),
    "ObtainIronPickaxeDense": (6000, _PICKAXE),
}


def tasks() -> list[str]:
    return list(TASKS)


def make(config: EnvConfig, seed: int) -> HostedEnv:
    task, chosen = variants(config.task.partition("/")[2], VARIANTS)
    if task not in TASKS:
        raise unknown("MineRL task", task, TASKS)
    limit, text = TASKS[task]
    vpt = "vpt" in chosen
    arguments = {
        "task": task,
        "task_text": text,
        "max_steps": limit_steps(config, FPS, limit),
        "folder": game(config),
        "keys": list(BUTTONS) if vpt else [],
        "turns": turns() if vpt else [],
    }
    # The first reset starts the game, which takes as long as other simulators take to be made.
    host = replace(config.host, reset_s=config.host.reset_s + config.host.start_s)
    return hosted_elsewhere(config, seed, "minerl", "minerl:MineRL", arguments, host)


def game(config: EnvConfig) -> str:
    """The folder of a built game; empty for the one in the package, which is built after its installation."""
    given = config.assets or os.environ.get("DISTWM_MINERL_GAME", "")
    return str(Path(given).expanduser().absolute()) if given else ""


def turns() -> np.ndarray:
    """(121, 2) degrees, pitch and yaw, that VPT's joint camera motions stand for."""
    pitch, yaw = np.divmod(np.arange(BINS * BINS), BINS)
    return np.stack([to_degrees(pitch), to_degrees(yaw)], axis=1)
