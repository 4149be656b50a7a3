"""What can be known to be wrong before anything starts: the task, its renderer, the report's tools, the replay."""

from __future__ import annotations

from actors.envs.registry import episode_spec
from distwm.config import RunConfig
from distwm.logs import check_wandb


def check_machine(config: RunConfig) -> None:
    """Raises Missing or BadInput, each with its mend."""
    episode_spec(config.env)
    check_wandb(config.log)
