"""robosuite 1.5: `robosuite/<task>`, a Panda arm at a table; `robosuite/<task>@sparse` rewards success alone.

The environment itself lives in another interpreter: actors/hosting/guests/robosuite.py describes its fields.
"""

from __future__ import annotations

from actors.envs.elsewhere import FPS, hosted_elsewhere
from actors.envs.registry import EnvConfig, limit_steps, unknown, variants
from actors.hosting.hosted import HostedEnv

HOSTED = True
LENGTH = 500  # decisions, as robosuite's own benchmark has it
TASKS = ("Door", "Lift", "PickPlace", "Stack")


def tasks() -> tuple[str, ...]:
    return TASKS


def make(config: EnvConfig, seed: int) -> HostedEnv:
    task, chosen = variants(config.task.partition("/")[2], ("sparse",))
    if task not in TASKS:
        raise unknown("robosuite task", task, TASKS)
    arguments = {"task": task, "sparse": "sparse" in chosen, "max_steps": limit_steps(config, FPS, LENGTH)}
    return hosted_elsewhere(config, seed, "robosuite", "robosuite:Robosuite", arguments)
