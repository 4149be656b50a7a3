"""How the processes of a run share a cluster: one bundle for the pipeline, one for each learner and each runner."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ray import tune

from distwm.config import RunConfig
from replay.errors import Missing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What each process asks of Ray."""

    driver_cpus: float
    learner_cpus: float
    learner_gpus: float
    runner_cpus: float
    inference_cpus: float = 0.0


def shares(config: RunConfig, resources: Mapping[str, float]) -> Shares:
    """The configured asks, scaled down together where the cluster has fewer CPUs.

    Learners and runners of a stage take turns, so more processes than cores cost little; an ask that Ray cannot grant
    would wait for ever. Raises Missing if a GPU is asked for and there is none.
    """
    cluster, fleet, learners = config.cluster, config.fleet, config.learner.group
    wanted = cluster.driver_cpus + learners * cluster.cpus_per_learner + fleet.runners * fleet.cpus_per_runner
    wanted += fleet.inference.actors * fleet.inference.cpus
    scale = min(1.0, resources.get("CPU", 1.0) / wanted)
    if scale < 1:
        _log.info("Ray has %g CPUs where %g are wanted: the processes share them", resources.get("CPU", 1.0), wanted)
    return Shares(
        driver_cpus=scaled(cluster.driver_cpus, scale),
        learner_cpus=scaled(cluster.cpus_per_learner, scale),
        learner_gpus=_gpus(config, resources.get("GPU", 0.0)),
        runner_cpus=scaled(fleet.cpus_per_runner, scale),
        inference_cpus=scaled(fleet.inference.cpus, scale),
    )


def bundles(config: RunConfig, share: Shares) -> tune.PlacementGroupFactory:
    """One placement group for the whole trial, so that it starts completely or not at all."""
    learner = {"CPU": share.learner_cpus} | _some_gpus(share.learner_gpus)
    runners = [{"CPU": share.runner_cpus}] * config.fleet.runners
    inference = {"CPU": share.inference_cpus} | _some_gpus(config.fleet.inference.gpus)
    servers = [inference] * config.fleet.inference.actors
    driver = {"CPU": share.driver_cpus}
    return tune.PlacementGroupFactory([driver, *[learner] * config.learner.group, *runners, *servers])


def _some_gpus(gpus: float) -> dict[str, float]:
    return {"GPU": gpus} if gpus else {}


def _gpus(config: RunConfig, available: float) -> float:
    """Of each learner: what the inference actors leave, up to a whole one."""
    inference = config.fleet.inference
    left = available - inference.actors * inference.gpus
    if left < 0:
        raise Missing(
            f"fleet.inference asks for {inference.actors} x {inference.gpus:g} GPUs, and Ray sees {available:g}.",
            "Set fleet.inference.gpus=0, or to a smaller share.",
        )
    enough = available >= config.learner.group and left > 0
    if config.learner.device == "cpu" or (config.learner.device == "auto" and not enough):
        return 0.0
    if not enough:
        raise Missing(
            f"learner.device={config.learner.device}: Ray sees {available:g} GPUs for {config.learner.group} learners"
            f" beside {inference.actors * inference.gpus:g} for inference.",
            "Set learner.device=cpu, or install a CUDA build of torch where a GPU is.",
        )
    return min(1.0, scaled(left / config.learner.group, 1.0))


def scaled(cpus: float, scale: float) -> float:
    """Rounded down: Ray counts in ten-thousandths, and the sum must still fit."""
    return math.floor(cpus * scale * 1000) / 1000
