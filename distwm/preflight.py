"""What can be known to be wrong before anything starts: names, the task, its renderer, wandb, replay and data."""

from __future__ import annotations

import torch

from actors.envs.registry import episode_spec
from actors.policies import build
from distwm.config import RunConfig
from distwm.evaluate import policy_spec
from distwm.logs import check_wandb
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.shards.status import status
from replay.sources.opening import check_recorded


def check_machine(config: RunConfig) -> None:
    """Raises Missing, BadInput or, if the given replay does not answer, TryAgain."""
    spec = episode_spec(config.env)
    _check_names(config, spec)
    check_recorded(config.replay, spec)
    check_wandb(config.log)
    if config.replay.url:
        status(config.replay, "preflight")


def _check_names(config: RunConfig, spec: EpisodeSpec) -> None:
    """Builds the system without its numbers, and asks it for every objective and agent that the plan will ask for."""
    try:
        with torch.device("meta"):
            system = config.system.build(spec)
        for stage in config.plan:
            if stage.config.kind in ("train", "online"):
                system.objective(stage.objective)
    except (KeyError, ValueError) as error:
        raise BadInput(f"{error.args[0]}.", "Change these settings so that they fit.") from error
    for policy in map(policy_spec, config.policies):
        build(policy, config.env, spec, config.behaviour, system)
