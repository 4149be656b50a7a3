"""A process that writes numbered episodes into a data set until it is killed: `dataset_worker.py DIR COUNT BYTES`."""

from __future__ import annotations

import sys
from pathlib import Path

from replay_cases import SPEC, make_steps

from replay.dataset.writer import DatasetWriter


def length(number: int) -> int:
    return 2 + number % 40


if __name__ == "__main__":
    with DatasetWriter(Path(sys.argv[1]), SPEC, name="counted", shard_bytes=int(sys.argv[3])) as writer:
        for i in range(int(sys.argv[2])):
            if f"episode-{i}" not in writer.names:
                writer.add(f"episode-{i}", make_steps(length(i), seed=i), source=f"s{i % 3}")
