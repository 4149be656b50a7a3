"""How a replay looks to a person: tables for `status`, a line a chunk for `tail`, a table for `verify`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distwm.replay.reading import ConsumerRow, Reading, ShardRow, StreamRow
from replay.shards.survey import Stored
from replay.shards.verify import Finding

_STREAMS = 12  # rows; the most recently moved
_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_STYLES = {"ok": "green", "away": "red", "lost": "red", "loading": "yellow", "unknown": "yellow"}


def size(bytes_: int) -> str:
    """`1.5 GiB`."""
    for unit, factor in _UNITS:
        if bytes_ >= factor:
            return f"{bytes_ / factor:.1f} {unit}"
    return f"{bytes_} B"


def parse_size(text: str) -> int:
    """Bytes from `2GiB`, `300 MB`, `500000`. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not found or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is no size; write 2GiB, 300MB or 500000")
    number, prefix, binary = found.groups()
    factor = (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " ")
    if float(number) * factor < 1:
        raise ValueError("give at least one byte")
    return int(float(number) * factor)


def short(name: str) -> str:
    """A server's name without what all addresses have in common."""
    place = name.rpartition("://")[2].rpartition("@")[2]
    return "/".join(place.split("/")[-3:]) if name.startswith("unix:") else place


def age(seconds: float | None) -> str:
    """`12 s`, `3 min`, `2 h`; `-` if unknown."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def rate(per_s: float) -> str:
    """`1,234/s`, or nothing."""
    return f"{per_s:,.0f}/s" if per_s else ""


def page(title: str, reading: Reading) -> RenderableType:
    """The whole of `status`."""
    parts: list[RenderableType] = [Text(title, style="bold"), _shards(reading.shards)]
    parts += [Text(row.problem, style="red") for row in reading.shards if row.problem]
    parts += [Text(f"{short(row.name)}: {alarm}", style="red") for row in reading.shards for alarm in row.alarms]
    parts += [Text(loss, style="bold red") for loss in reading.losses]
    parts += [_flow(reading)]
    parts += [Text(reason, style="yellow") for reason in reading.held]
    if reading.consumers:
        parts.append(_consumers(reading.consumers))
    if reading.streams:
        parts.append(_streams(reading.streams))
    return Group(*parts)


def line(shard: str, stored: Stored) -> str:
    """One chunk of `tail`."""
    e = stored.entry
    steps = f"steps {e.first_step}-{e.first_step + e.steps - 1}"
    words = [f"{stored.number:>8}", f"{e.id.stream} {e.id.incarnation}/{e.id.seq}", f"episode {e.episode}", steps]
    return "  ".join([*words, f"{e.source}@{e.policy_version}", size(stored.bytes), short(shard)])


def findings(found: Sequence[Finding]) -> Table:
    """What `verify` found, shard by shard."""
    table = _table("shard", "chunks", "steps", "episodes", "stored", "lives", "evicted meanwhile", "damages")
    for f in found:
        damages = Text(str(len(f.damages)), style="red" if f.damages else "green")
        numbers = [f"{n:,}" for n in (f.chunks, f.steps, f.episodes)]
        table.add_row(short(f.shard), *numbers, size(f.bytes), f"{len(f.lives):,}", str(f.evicted), damages)
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _shards(rows: Sequence[ShardRow]) -> Table:
    table = _table("shard", "", "memory", "stored", "of the budget", "chunks", "episodes", "steps", "in", "file")
    for row in rows:
        memory = size(row.used_bytes) + (f" / {size(row.limit_bytes)}" if row.limit_bytes else "")
        numbers = [f"{n:,}" for n in (row.chunks, row.episodes, row.steps)]
        table.add_row(
            short(row.name),
            _said(row),
            memory if row.used_bytes else "",
            size(row.stored_bytes),
            _bar(row),
            *numbers,
            rate(row.inserted_per_s),
            row.file,
            style="dim" if row.state == "away" else None,
        )
    return table


def _said(row: ShardRow) -> Text:
    words = f"away {age(row.away_s)}" if row.state == "away" and row.away_s else row.state
    return Text(words, style=_STYLES[row.state])


def _bar(row: ShardRow) -> RenderableType:
    if not row.budget_bytes:
        return ""
    bar = Table.grid(padding=(0, 1))
    share = row.stored_bytes / row.budget_bytes
    bar.add_row(
        ProgressBar(total=1.0, completed=min(share, 1.0), width=12), f"{share:4.0%} of {size(row.budget_bytes)}"
    )
    return bar


def _flow(reading: Reading) -> Text:
    stored = f"{reading.stored_steps:,} steps stored"
    inserted = f"{reading.inserted_steps:,} ever {rate(reading.inserted_per_s)}".rstrip()
    sampled = f"{reading.sampled_steps:,} sampled {rate(reading.sampled_per_s)}".rstrip()
    wanted = "" if reading.wanted is None else f" of {reading.wanted:g} wanted" if reading.wanted else ", no limit"
    return Text(f"{stored}, {inserted}; {sampled}; {reading.ratio:.2f} samples per insert{wanted}")


def _consumers(rows: Sequence[ConsumerRow]) -> Table:
    table = _table("consumer", "sampled steps", "out", "last report")
    for row in rows:
        table.add_row(row.name, f"{row.sampled:,}", rate(row.sampled_per_s), age(row.lag_s))
    return table


def _streams(rows: Sequence[StreamRow]) -> Table:
    more = f" (the latest {_STREAMS} of {len(rows)})" if len(rows) > _STREAMS else ""
    table = _table(f"stream{more}", "life", "chunks", "last commit", "shard")
    for row in rows[:_STREAMS]:
        table.add_row(row.name, str(row.life), f"{row.chunks:,}", age(row.quiet_s), short(row.shard))
    return table
