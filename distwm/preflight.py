"""What can be known to be wrong before anything starts: names, the task, its renderer, wandb, replay and data."""

from __future__ import annotations

import torch

from actors.policies import build
from actors.sources.agent import briefly
from actors.sources.source import SourceConfig
from distwm.config import RunConfig
from distwm.evaluate import policy_spec
from distwm.logs import check_wandb
from distwm.records import records_of
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.shards.status import status
from replay.sources.opening import check_recorded


def check_machine(config: RunConfig) -> str:
    """The provenance of the action source, nothing where none is followed. Raises Missing, BadInput or, if the given
    replay does not answer, TryAgain."""
    spec = records_of(config)
    provenance = _check_names(config, spec)
    check_recorded(config.replay, spec)
    check_wandb(config.log)
    if config.replay.url:
        status(config.replay, "preflight")
    return provenance


def _check_names(config: RunConfig, spec: EpisodeSpec) -> str:
    """Builds the system without its numbers, and asks it for every objective and agent that the plan will ask for.
    Returns the provenance of the source that they follow."""
    try:
        with torch.device("meta"):
            system = config.system.build(spec)
        for stage in config.plan:
            if stage.config.kind in ("train", "online", "analyse"):
                system.objective(stage.objective)
    except (KeyError, ValueError) as error:
        raise BadInput(f"{error.args[0]}.", "Change these settings so that they fit.") from error
    policies = [policy_spec(name) for name in config.policies]
    wanted = any(policy.follows_source for policy in policies)
    with briefly(config.source if wanted else SourceConfig(), config.env) as following:
        for policy in policies:
            build(policy, config.env, spec, config.behaviour, system, following)
        return following.source.spec.provenance if following else ""
