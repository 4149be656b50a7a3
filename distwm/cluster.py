"""The Ray and the Redis of a run: an own, private pair on one machine, or those that are given."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray

from distwm.config import RunConfig
from distwm.rundir import RunDir
from replay.errors import BadInput, TryAgain
from replay.shards.server import EmbeddedRedis
from replay.sources.opening import located

_log = logging.getLogger(__name__)

# Ours to say, before Tune and Ray look: figures go through our sinks, signals through our handler, and no data home.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# One thread a process: more processes than cores each with a pool of threads cost an order of magnitude.
WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MUJOCO_GL": "osmesa"}


@contextmanager
def ray_cluster(config: RunConfig) -> Iterator[dict[str, float]]:
    """Connects to RAY_ADDRESS (set within a Ray job), or starts a private Ray. Yields the cluster's resources.

    Raises TryAgain if the cluster does not answer.
    """
    environment = {name: value for name, value in WORKER_ENVIRONMENT.items() if name not in os.environ}
    options: dict[str, Any] = {
        "log_to_driver": True,
        "logging_level": logging.WARNING,
        "runtime_env": {"env_vars": environment},
    }
    if not os.environ.get("RAY_ADDRESS"):
        options |= {
            "address": "local",
            "num_cpus": config.cluster.cpus or os.cpu_count() or 1,
            "object_store_memory": config.cluster.object_store_bytes,
            "include_dashboard": False,
        }
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise TryAgain(
            f"Ray does not answer: {error}.", "Start the cluster or unset RAY_ADDRESS, then rerun."
        ) from error
    except Exception as error:
        if type(error) is not Exception:  # which is all that Ray says when its own processes take too long to come up
            raise
        raise TryAgain(f"Ray did not start: {error}", "Rerun when the machine is less busy.") from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


@contextmanager
def replay_server(config: RunConfig, run_dir: RunDir) -> Iterator[RunConfig]:
    """Yields the configuration with the url of a replay (the one given, or one that we start and stop), and with the
    recorded data of its mixture where processes in other directories find it."""
    config = replace(config, replay=located(config.replay))
    if config.replay.url:
        yield config
        return
    if len([node for node in ray.nodes() if node["Alive"]]) > 1:
        raise BadInput(
            "The embedded Redis serves one machine, and this Ray cluster has several.", "Give replay.url=redis://..."
        )
    server = EmbeddedRedis(run_dir.replay, config.replay.max_bytes, config.replay.durability)
    url = server.start()
    try:
        yield replace(config, replay=replace(config.replay, url=url))
    finally:
        server.stop()
