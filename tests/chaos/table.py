"""Every fault at full count, as a Markdown table: python tests/chaos/table.py [words of a fault]"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from faults_clock import jumping_clocks
from faults_full import full_disk_of_redis, full_disk_of_the_spool, full_memory
from faults_killed import killed_servers, killed_writers
from faults_lost import emptied, goes_on, rewound
from faults_network import FAULTS, broken_connections, killed_in_outage, outage
from faults_shards import dead_shard
from proxy import Mode
from row import Row

HEAD = ["fault", "times", "acknowledged chunks", "lost", "duplicates", "torn", "figures (wanted)"]
Scenario = Callable[[Path], Row]


def scenarios() -> Iterator[tuple[str, Scenario]]:
    """Name and full count of each."""
    yield "writer kill", partial(killed_writers, times=200)
    yield "redis kill", partial(killed_servers, times=20)
    yield "empty stop", emptied
    yield "older stop", rewound
    yield "empty continue", partial(goes_on, empty=True)
    yield "older continue", partial(goes_on, empty=False)
    for mode in FAULTS:
        yield f"network {mode}", _network(mode)
    yield "shard", partial(dead_shard, seconds=10)
    yield "memory", partial(full_memory, seconds=6)
    yield "disk redis", partial(full_disk_of_redis, seconds=6)
    yield "disk spool", full_disk_of_the_spool
    yield "clock", partial(jumping_clocks, seconds=9)
    yield "outage kill", partial(outage, seconds=30, hang=False)
    yield "outage hang", partial(outage, seconds=30, hang=True)
    yield "writer killed in outage", partial(killed_in_outage, chunks=100)


def _network(mode: Mode) -> Scenario:
    return lambda place: broken_connections(place, mode)


def run(name: str, scenario: Scenario) -> Row:
    """The row; what it needs and this machine lacks, or what did not come in time, is said in it."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        try:
            return scenario(Path(place))
        except pytest.skip.Exception as reason:
            return Row(fault=name, skipped=str(reason))
        except AssertionError as reason:
            return Row(fault=name, wrong=(str(reason),))


def main() -> int:
    words = sys.argv[1:]
    rows, begun = [], time.monotonic()
    print("| " + " | ".join(HEAD) + " |\n" + "| --- " * len(HEAD) + "|")
    for name, scenario in scenarios():
        if all(word in name for word in words):
            rows.append(run(name, scenario))
            print("| " + " | ".join(rows[-1].cells()) + " |", flush=True)
            print(rows[-1].said() if not rows[-1].ok else "", file=sys.stderr, flush=True)
    bad = [r.fault for r in rows if not r.ok and not r.skipped]
    print(
        f"\n{len(rows)} faults in {time.monotonic() - begun:.0f} s; {len(bad)} broke a promise: {', '.join(bad) or '-'}"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
