"""What `python -m distwm.collect` does once its words are understood."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

from actors.envs.registry import EnvConfig, make, spec_of
from actors.policies import build
from actors.sources.agent import briefly
from actors.sources.source import SourceConfig
from distwm.collect.book import Book
from distwm.collect.plan import CollectConfig, Order, check, parse
from distwm.commands import output_to
from distwm.rundir import RunDir, resolve_run_dir
from replay.schema import EpisodeSpec
from replay.shards.status import status


def run(arguments: argparse.Namespace) -> int:
    """The exit code. Raises BadInput, Missing, or TryAgain, which names the tasks that were given up."""
    config, orders = parse(arguments.words)
    if arguments.help_config:
        from distwm.help import print_table

        print_table(config, "python -m distwm.collect", sys.stdout)
        return 0
    check(config, orders)
    specs = preflight(config, orders)
    root = RunDir(resolve_run_dir(config.as_run(), "collect"))
    with root.owned(), closing(Book(root.root, config)) as book:
        for order in orders:
            book.enter(order, specs[order.task])
        book.save(book.seconds)
        with output_to(root.log) as terminal:
            from distwm.collect.session import collect  # Ray: seconds that a mistyped word should not cost

            return collect(config, orders, root, book, terminal)


def preflight(config: CollectConfig, orders: Sequence[Order]) -> Mapping[str, EpisodeSpec]:
    """The fields of each task's steps. Resets every environment and makes every agent once, and asks a given replay
    whether it is there: what is wrong or missing is known before anything starts. Raises BadInput, Missing or
    TryAgain."""
    specs: dict[str, EpisodeSpec] = {}
    for order in orders:
        env = order.env(config)
        if order.task not in specs:
            specs[order.task] = _tried(env, config.source.plan_steps)
        with briefly(config.source if order.spec.follows_source else SourceConfig(), env) as following:
            build(order.spec, env, specs[order.task], config.behaviour, None, following)
    if config.replay.url:
        status(config.replay, "preflight")
    return specs


def _tried(config: EnvConfig, plan_steps: int) -> EpisodeSpec:
    """The fields of an environment that could be reset: some look for their parts no earlier."""
    env = make(config, seed=0)
    try:
        env.reset(seed=0)
        return spec_of(env, plan_steps)
    finally:
        env.close()
