"""One sitting of a collection: Ray, the replay, the fleet, and the summary at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import IO

from actors.fleet import Fleet, Member
from distwm.cluster import ray_cluster, replay_server
from distwm.collect.book import Book
from distwm.collect.drive import Collection
from distwm.collect.films import film
from distwm.collect.job import Job
from distwm.collect.plan import CollectConfig, Order
from distwm.collect.resume import Shelf
from distwm.collect.show import Display, Row
from distwm.driver import StopSignal
from distwm.placement import scaled
from distwm.rundir import RunDir

WIND_UP_S = 30.0  # from a signal, beyond `stop_s`, to the end of the process


def collect(config: CollectConfig, orders: Sequence[Order], root: RunDir, book: Book, terminal: IO[str]) -> int:
    """0, or 128 + the number of the signal that ended it. Raises the error of a task that was given up, named."""
    display = Display(terminal)
    with (
        ray_cluster(config.as_run()) as resources,
        StopSignal(config.stop_s + WIND_UP_S).listening() as stop,
        replay_server(config.as_run(), root) as served,
    ):
        shelf = Shelf(served.replay, book.name, book.success_terminates())
        for said in filter(None, (shelf.reconcile(book, order) for order in orders)):
            display.say(said)
        served_config = replace(config, replay=served.replay)
        jobs = [Job(order, config.episodes, book.played[order.key], book.failures(order)) for order in orders]
        rows: list[Row] = []
        for some in _at_once(jobs, config.at_once):
            play = Collection(served_config, some, book, shelf, display)
            if not play.over and not stop.number:
                display.say(f"Collecting in {root.root}: {', '.join(job.order.key for job in play.waiting)}.")
                with closing(_fleet(play, resources)) as fleet, display.open():
                    play.run(fleet, lambda: bool(stop.number))
            rows += play.rows()
        if not any(job.steps for job in jobs):
            display.say(f"Nothing is left to collect in {root.root}.")
        book.save(book.seconds, replay={order.run(book.name): shelf.counters(order) for order in orders})
        if config.videos:
            film(served_config, orders, book, root.root / "videos")
    display.table(rows)
    if stop.number:
        display.say(f"Stopped by signal {stop.number}; the same command goes on.")
        return 128 + stop.number
    _raise_given_up(jobs)
    return 0


def _at_once(jobs: Sequence[Job], most: int) -> list[Sequence[Job]]:
    """In groups of so many; 0: all together."""
    most = most or max(len(jobs), 1)
    return [jobs[begin : begin + most] for begin in range(0, len(jobs), most)]


def _fleet(play: Collection, resources: Mapping[str, float]) -> Fleet:
    """The runners of the orders that wait. They share the CPUs where there are fewer than they ask for."""
    config = play.config
    members = [
        Member(
            env=job.order.env(config),
            run=job.order.run(play.book.name),
            runners=job.order.runners,
            behaviour=config.behaviour,
            source=config.source,
        )
        for job in play.waiting
    ]
    wanted = config.fleet.cpus_per_runner * sum(member.runners for member in members)
    share = min(1.0, resources.get("CPU", 1.0) / max(wanted, 1e-9))
    return Fleet(
        # Failed work comes back to us: whether it is to be done again, the replay knows.
        replace(config.fleet, max_retries=0, cpus_per_runner=scaled(config.fleet.cpus_per_runner, share)),
        members,
        runner=config.runner,
        replay=config.replay,
        system=None,
        seed=config.seed,
    )


def _raise_given_up(jobs: Sequence[Job]) -> None:
    """The gravest error, with the names of all orders that were given up."""
    lost = [job for job in jobs if job.error]
    errors = sorted((job.error for job in lost if job.error), key=lambda error: error.exit_code)
    if errors:
        names = ", ".join(job.order.key for job in lost)
        raise type(errors[0])(f"Given up: {names}. {errors[0].message}", errors[0].mend)
