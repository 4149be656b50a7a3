"""What `python -m distwm.replay` does once its words are understood. Every command returns its exit code."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.prompt import Confirm

from distwm.replay import view
from distwm.replay.reading import Reader, Reading
from distwm.replay.where import Place, each, find
from replay.dataset.format import is_dataset
from replay.dataset.verify import verify as verify_dataset
from replay.errors import BadInput, TryAgain
from replay.shards.survey import Look, Surveyor
from replay.shards.verify import Finding, check_lives, verify_shard

_SHOWN = 20  # damages


def for_each_run(command: Callable[[argparse.Namespace], int], given: argparse.Namespace) -> int:
    """The command for every run that is meant, one after the other; the worst of their exit codes."""
    if given.where and is_dataset(Path(given.where)):
        return command(given)
    with each(given.where, given.url, given.run) as runs:
        if len(runs) == 1:
            return command(argparse.Namespace(**vars(given) | {"run": runs[0]}))
        return max(_for_one(command, argparse.Namespace(**vars(given) | {"run": run, "once": True})) for run in runs)


def _for_one(command: Callable[[argparse.Namespace], int], given: argparse.Namespace) -> int:
    """One of several: under its name, and without a page that stays, which would hide the others."""
    if command is not status:  # that says it itself
        sys.stdout.write(f"{given.run}\n")
        sys.stdout.flush()
    return command(given)


def status(given: argparse.Namespace) -> int:
    """Live on a terminal; else one page after two looks, since rates need two. 75 if no server answers at all."""
    console = _console()
    with _shards(given) as (place, shards):
        config = place.config
        reader = Reader(place.shard_bytes, config.limiter if place.known else None, config.chunk_steps)
        looks = _look(shards)
        reading = reader.read(looks)
        if given.json or given.once or not console.is_terminal:
            time.sleep(given.every)
            looks = _look(shards)
            reading = reader.read(looks)
            if given.json:
                sys.stdout.write(_json(place, reading) + "\n")
            else:
                console.print(view.page(place.title, reading))
            return min(look.code for look in looks)
        with Live(view.page(place.title, reading), console=console, auto_refresh=False) as live, _until_interrupted():
            while True:
                time.sleep(given.every)
                live.update(view.page(place.title, reader.read(_look(shards))), refresh=True)
    return 0


def verify(given: argparse.Namespace) -> int:
    """2 if there is damage. A server that is away ends it: what cannot be read is not verified."""
    if given.where and is_dataset(Path(given.where)):
        return _verify_recorded(Path(given.where))
    console, found = _console(), []
    with _shards(given, patient=True) as (place, shards), _bar() as bar:
        looks = [shard.see() for shard in shards]
        _known(place, looks)
        for shard, look in zip(shards, looks, strict=True):
            task = bar.add_task(view.short(shard.name), total=look.counters.get("chunks", 0))
            found.append(verify_shard(shard, place.run, partial(bar.advance, task)))
    check_lives(found)
    console.print(view.findings(found))
    return _report(console, found)


def _verify_recorded(directory: Path) -> int:
    with _bar() as bar:
        task = bar.add_task(directory.name, total=None)
        manifest = verify_dataset(directory, lambda done, total: bar.update(task, completed=done, total=total))
    _console().print(f"{manifest.episodes} episodes, {manifest.steps} steps: every byte is as it was written.")
    return 0


def tail(given: argparse.Namespace) -> int:
    """The last lines of every shard; with --follow, then what is new, until interrupted."""
    with _shards(given, patient=not given.follow) as (place, shards):
        looks = _look(shards)
        _known(place, looks)
        last = {shard: _print_newest(shard, look, given.lines) for shard, look in zip(shards, looks, strict=True)}
        with _until_interrupted():
            while given.follow:
                sys.stdout.flush()
                time.sleep(given.every)
                for shard, look in zip(shards, _look(shards), strict=True):
                    last[shard] = _print_later(shard, look, last[shard])
    return 0


def evict(given: argparse.Namespace) -> int:
    """Drops the oldest chunks of each shard, in proportion to what it holds."""
    console = _console()
    with _shards(given, patient=True) as (place, shards):
        before = [shard.see() for shard in shards]
        _known(place, before)
        stored = sum(look.counters.get("bytes", 0) for look in before)
        if not given.yes and not _sure(console, place, min(given.bytes, stored), stored):
            console.print("Nothing was dropped.")
            return 0
        for shard, look in zip(shards, before, strict=True):
            mine = look.counters.get("bytes", 0)
            if mine:
                shard.evict(-(-given.bytes * mine // stored))
            _say_gone(console, look, shard.see())
    return 0


@contextmanager
def _shards(given: argparse.Namespace, patient: bool = False) -> Iterator[tuple[Place, list[Surveyor]]]:
    """The shards that are meant. `patient`: waits out a short silence, where one answer is all that is wanted."""
    with find(given.where, given.url, given.run) as place:
        shards = place.shards(outage_s=place.config.connect_timeout_s if patient else 0.0)
        try:
            yield place, shards
        finally:
            for shard in shards:
                shard.close()


def _look(shards: Sequence[Surveyor]) -> list[Look]:
    """One look at each, all at once: a dead one holds up nobody for longer than its timeout."""
    with ThreadPoolExecutor(len(shards)) as threads:
        return list(threads.map(Surveyor.look, shards))


def _known(place: Place, looks: Sequence[Look]) -> None:
    """Raises BadInput if all shards answer and none knows the run."""
    if not any(look.problem or look.epoch for look in looks):
        raise BadInput(f"No server knows the run {place.run!r}.", "Give its name as run_id or collect.json has it.")


def _print_newest(shard: Surveyor, look: Look, lines: int) -> int:
    """The number of the last chunk."""
    if look.problem:
        sys.stderr.write(f"{look.problem}\n")
        return 0
    for stored in shard.newest(lines) if lines else []:
        sys.stdout.write(view.line(shard.name, stored) + "\n")
    return look.counters.get("inserted_chunks", 0)


def _print_later(shard: Surveyor, look: Look, last: int) -> int:
    if look.problem:
        return last
    now = look.counters.get("inserted_chunks", 0)
    if now < last:
        sys.stderr.write(f"{view.short(shard.name)} came back with older data: chunk {now} after chunk {last}\n")
        return now
    try:
        for page in shard.pages(last):
            for stored in page:
                sys.stdout.write(view.line(shard.name, stored) + "\n")
                last = stored.number
    except TryAgain:
        pass  # the next look tells
    return last


def _sure(console: Console, place: Place, bytes_: int, stored: int) -> bool:
    if not sys.stdin.isatty():
        raise BadInput("There is nobody to ask whether experience may be dropped.", "Give --yes.")
    question = f"Drop the oldest {view.size(bytes_)} of {view.size(stored)} of {place.title}?"
    return Confirm.ask(question, console=console, default=False)


def _say_gone(console: Console, before: Look, after: Look) -> None:
    gone = {name: before.counters.get(name, 0) - after.counters.get(name, 0) for name in ("chunks", "steps", "bytes")}
    first, last = before.oldest, after.oldest - 1
    which = f" (chunks {first} to {last} of the index)" if last >= first else ""
    console.print(
        f"{view.short(before.name)}: {gone['chunks']} chunks, {gone['steps']} steps, "
        f"{view.size(max(gone['bytes'], 0))} dropped{which}; {view.size(after.counters.get('bytes', 0))} are left."
    )


def _report(console: Console, found: Sequence[Finding]) -> int:
    damages = [damage for finding in found for damage in finding.damages]
    for damage in damages[:_SHOWN]:
        console.print(f"{damage.what} at {view.short(damage.shard)}: {damage.reason}", soft_wrap=True)
    if len(damages) > _SHOWN:
        console.print(f"... and {len(damages) - _SHOWN} more")
    console.print(f"{len(damages)} damages." if damages else "All is as the index says.")
    return 2 if damages else 0


def _json(place: Place, reading: Reading) -> str:
    return json.dumps({"run": place.run, **asdict(reading), "ratio": reading.ratio})


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    return console


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """ctrl-c is how a person ends what has no end of its own."""
    try:
        yield
    except KeyboardInterrupt:
        return
