"""What a policy server and its client cost: the round trip of a LIBERO request (301 kB) whose policy takes no time,
and requests/s of four connections. The peers are openpi's own client, from its interpreter, at the same server, and a
server of openpi's kind, which infers in its loop and so answers no ping meanwhile.

    python tests/bench/bench_openpi.py [--repetitions N]

Client and server share one machine, the server in a process of its own. Turns are short and alternate, on the wall's
clock: the median over turns, and the best turn, which other work on the machine disturbed least. CPU time is that of a
request alone, of the client and of the server, which other work disturbs little.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from timing import arguments, table

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "actors")]

from sources_kit import request  # noqa: E402

from actors.hosting.interpreters import interpreter  # noqa: E402
from actors.sources.codec import pack, unpack  # noqa: E402
from actors.sources.openpi import OpenPi  # noqa: E402
from actors.sources.pictures import resize_with_pad  # noqa: E402
from actors.sources.source import SourceConfig  # noqa: E402
from replay.errors import Missing  # noqa: E402

ASKED = 200  # requests of a turn and connection
CONNECTIONS = 4
PEER = ROOT / "tests" / "actors" / "openpi_peer.py"
# A policy that takes no time gains nothing by waiting for others.
OURS = ("-m", "actors.sources.server", "sources_kit:Still", "--port", "0", "--max-wait-ms", "0")
THEIRS = (str(ROOT / "tests" / "actors" / "openpi_server.py"), "still", "0")


@dataclass(frozen=True)
class Turn:
    seconds: list[float]  # of each request of one connection
    client_s: float  # of CPU time a request
    server_s: float
    rate: float  # requests a second of four connections


@contextlib.contextmanager
def server(*command: str) -> Iterator[tuple[str, int]]:
    """A server whose policy takes no time, as a process: its url and its number."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "actors")])
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        yield (said.split()[2].rstrip(":") if " " in said else f"ws://127.0.0.1:{int(said)}"), process.pid
    finally:
        process.kill()
        process.communicate()


def cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def ours(url: str, pid: int) -> Turn:
    with contextlib.closing(OpenPi(SourceConfig(url=url, connections=1))) as source:
        one = [request(1)]
        source.act(one)
        here, there = time.process_time(), cpu_s(pid)
        seconds = [source.act(one).latency_s.item() for _ in range(ASKED)]
        here, there = time.process_time() - here, cpu_s(pid) - there
    return Turn(seconds, here / ASKED, there / ASKED, together(url))


def together(url: str) -> float:
    """Requests a second of four connections, each with a thread of its own."""
    with contextlib.closing(OpenPi(SourceConfig(url=url, connections=CONNECTIONS))) as source:
        asked = [request(number) for number in range(CONNECTIONS)]
        source.act(asked)
        threads = [threading.Thread(target=repeat, args=(source, one)) for one in asked]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return CONNECTIONS * ASKED / (time.perf_counter() - begun)


def repeat(source: OpenPi, one: Any) -> None:
    for _ in range(ASKED):
        source.act([one])


def theirs(url: str, pid: int) -> Turn:
    """The same of openpi's client; of its server's time the four connections are a part. Raises Missing."""
    command = [str(interpreter("openpi-client")), str(PEER), "turns", url, str(ASKED)]
    there = cpu_s(pid)
    said = json.loads(subprocess.run(command, capture_output=True, check=True, text=True, timeout=600).stdout)
    there = (cpu_s(pid) - there) / ASKED / (1 + CONNECTIONS)
    return Turn(said["seconds"], said["cpu"], there, said["rate"])


def row(name: str, turns: Sequence[Turn]) -> list[object]:
    p50 = [1e3 * np.percentile(turn.seconds, 50) for turn in turns]
    p99 = [1e3 * np.percentile(turn.seconds, 99) for turn in turns]
    rates = [turn.rate for turn in turns]
    used = [1e3 * median(getattr(turn, side) for turn in turns) for side in ("client_s", "server_s")]
    figures = [median(p50), min(p50), median(p99), min(p99), *used]
    return [name, *(f"{figure:.2f}" for figure in figures), f"{median(rates):.0f}", f"{max(rates):.0f}"]


def parts() -> list[list[object]]:
    """Microseconds of what is done with a request besides sending it: the fastest of some."""
    message = {"image": request(1).fields["agentview"], "wrist": request(1).fields["wrist"]}
    packed, large = pack(message), request(1, size=256).fields["agentview"]

    def fastest(what: Any) -> str:
        seconds = []
        for _ in range(50):
            begun = time.perf_counter()
            what()
            seconds.append(time.perf_counter() - begun)
        return f"{1e6 * min(seconds):.0f}"

    return [
        ["pack", fastest(lambda: pack(message))],
        ["unpack", fastest(lambda: unpack(packed))],
        ["resize_with_pad of 256 to 224 pixels", fastest(lambda: resize_with_pad(large, 224, 224))],
    ]


def report(repetitions: int) -> None:
    found: dict[str, list[Turn]] = {
        name: [] for name in ("ours, our server", "openpi-client, our server", "ours, theirs")
    }
    with server(*OURS) as there, server(*THEIRS) as bare:
        for _ in range(repetitions):
            for turns, (side, (url, pid)) in zip(
                found.values(), ((ours, there), (theirs, there), (ours, bare)), strict=True
            ):
                with contextlib.suppress(Missing):
                    turns.append(side(url, pid))
    rate = f"requests/s of {CONNECTIONS}"
    head = ["client and server", "p50 ms", "best", "p99 ms", "best", "client's CPU ms", "server's", rate, "best"]
    table(head, [row(name, turns) for name, turns in found.items() if turns])
    print()
    table(["part of a request", "us, fastest"], parts())


@pytest.mark.bench
def test_openpi() -> None:
    report(repetitions=3)


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or 7)
