"""What the tests of collections share: small ones, their ledgers, and episodes that no ledger knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from distwm.collect.book import Book, Played, read_ledger
from distwm.collect.plan import CollectConfig, Order, parse
from distwm.collect.tryout import try_all
from replay.writing.writer import ReplayWriter

COUNTING = Order(task="counting/5-12", policy="random", runners=2)
SMALL = ("env.pixels=false", "replay.max_bytes=16777216", "replay.chunk_steps=4", "fleet.cpus_per_runner=0.1")
SETTINGS = parse(["episodes=8", *SMALL])[0]


def ledger(out: Path) -> list[tuple[str, Played]]:
    path = out / "episodes.jsonl"
    return list(read_ledger(path.read_text())) if path.exists() else []


def opened(out: Path, config: CollectConfig) -> Book:
    book = Book(out, config)
    book.enter(COUNTING, try_all(config, [COUNTING])[COUNTING.key])
    book.save(book.seconds)
    return book


def played(number: int) -> Played:
    return Played(number=number, steps=7, total_reward=1.5, success=True, at_s=2.0)


def begin(url: str, config: CollectConfig, whole: tuple[int, ...], partial: tuple[int, ...] = ()) -> None:
    """Episodes in the replay, of which no ledger knows; the partial ones without their end."""
    spec = try_all(config, [COUNTING])[COUNTING.key].spec
    for number in (*whole, *partial):
        writer = ReplayWriter(replace(config.replay, url=url), COUNTING.run("mixed"), COUNTING.stream(number), spec)
        steps = {f.name: np.zeros((10, *f.shape), f.dtype) for f in spec.fields}
        steps["is_first"][0] = steps["is_last"][9] = True
        steps["reward"][1:] = number
        for t in range(10 if number in whole else 7):
            writer.add({name: rows[t] for name, rows in steps.items()}, source="random", policy_version=0)
        writer.close()
