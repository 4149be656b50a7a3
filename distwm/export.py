"""`python -m distwm.export <format> SOURCE --out DIR`: experience as recorded data, ours or LeRobot's. Resumes.

SOURCE is the directory of a run or of a collection (its replay is asked if it runs, served for the duration if not) or
recorded data of ours.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distwm.cli import exit_code

if TYPE_CHECKING:
    from replay.sources.source_reader import SourceReader

EPILOG = """\
formats:
  dataset     our own: replay.mixture=DIR=1 trains on it
  lerobot     LeRobot v3.0, pictures as lossless PNG; distwm.ingest brings it back bit by bit
  chunks      chunks of --horizon actions alone, chunks.npz: what an action source predicted, else windows of what was
              done; the same episodes give the same bytes, whoever played them

The same command again goes on where it was interrupted. Episodes that have not ended are left out unless --partial.

examples:
  python -m distwm.export dataset runs/first --out data/first --verify
  python -m distwm.export lerobot runs/first --out data/first-lerobot --fps 20 --task "balance the pole"
  python -m distwm.export chunks runs/pi05 --run pi05.libero.libero_spatial.0 --out data/chunks
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""
    return exit_code(lambda: _export(_parser().parse_args(words)))


def _export(arguments: argparse.Namespace) -> int:
    from distwm.copying import compare, complain, copy
    from replay.config import ReplayConfig
    from replay.dataset.verify import verify
    from replay.dataset.writer import DatasetWriter
    from replay.lerobot.export import LeRobotWriter
    from replay.lerobot.reader import LeRobotReader
    from replay.sources.dataset_source import DatasetSource
    from replay.sources.source_reader import SourceReader

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    out = Path(arguments.out).resolve()
    with _opened(arguments) as reader:
        if arguments.format == "chunks":
            from distwm.chunkfile import write_chunks

            sys.stdout.write(f"{write_chunks(reader, out, arguments.horizon)}\n")
            return 0
        if arguments.format == "lerobot":
            fps = arguments.fps or _fps(reader)
            lerobot = LeRobotWriter(
                out,
                reader.spec,
                fps=fps,
                task=arguments.task,
                origin=reader.origin,
                max_file_bytes=arguments.file_bytes,
            )
            wrong = copy(reader, lerobot, "export", sys.stdout)
        else:
            name = arguments.name or out.name
            dataset = DatasetWriter(out, reader.spec, name=name, origin=reader.origin, shard_bytes=arguments.file_bytes)
            wrong = copy(reader, dataset, "export", sys.stdout)
        _tell(reader)
        if arguments.verify and arguments.format == "lerobot":
            compare(LeRobotReader(out), reader.named, sys.stdout)
        elif arguments.verify:
            verify(out)
            written = DatasetSource(out, ReplayConfig(arena_bytes=0))
            compare(SourceReader(written, {}, partial=True), reader.named, sys.stdout)
            written.close()
        complain(wrong, reader.episodes)
    return 0


@contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[SourceReader]:
    """The episodes of SOURCE."""
    from distwm.records import noted_provenance
    from distwm.replay.where import find
    from replay.config import ReplayConfig
    from replay.dataset.format import PROVENANCE, is_dataset
    from replay.errors import BadInput
    from replay.sources.dataset_source import DatasetSource
    from replay.sources.redis_source import RedisSource
    from replay.sources.source_reader import SourceReader

    if arguments.source and is_dataset(Path(arguments.source)):
        recorded = DatasetSource(Path(arguments.source), ReplayConfig(arena_bytes=0))
        try:
            yield SourceReader(recorded, recorded.manifest.origin, partial=True)
        finally:
            recorded.close()
        return
    with find(arguments.source, arguments.url, arguments.run) as place:
        spec = next(filter(None, (shard.spec() for shard in place.shards())), None)
        if spec is None:
            raise BadInput(f"The run {place.run} has no experience.", "Export a run that has collected some.")
        said = noted_provenance(Path(arguments.source), place.run) if arguments.source else ""
        origin = {"run": place.run} | ({PROVENANCE: said} if said else {})
        # No arena: the run's own readers may be using it, and every chunk is wanted once.
        live = RedisSource(replace(place.config, arena_bytes=0), place.run, spec)
        try:
            yield SourceReader(live, origin, partial=arguments.partial)
        finally:
            live.close()


def _fps(reader: SourceReader) -> int:
    from replay.errors import BadInput

    if not (fps := int(reader.origin.get("fps", 0))):
        raise BadInput("It is not known how many frames a second this data has.", "Give --fps.")
    return fps


def _tell(reader: SourceReader) -> None:
    if reader.unfinished:
        sys.stdout.write(f"left out: {reader.unfinished} episodes that have not ended (--partial takes them)\n")
    if reader.evicted:
        sys.stdout.write(f"left out: {reader.evicted} episodes that were evicted meanwhile\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distwm.export",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=("dataset", "lerobot", "chunks"), help="see below")
    parser.add_argument("source", metavar="SOURCE", nargs="?", default="", help="a run directory or recorded data")
    parser.add_argument("--url", default="", help="instead of SOURCE: servers of a replay, and with it --run")
    parser.add_argument("--run", default="", help="the name of the run, where there are several")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new directory, or one to go on with")
    parser.add_argument("--name", default="", help="of a data set; the name of DIR if not given")
    parser.add_argument("--fps", type=int, default=0, help="lerobot: frames a second; that of recorded data if known")
    parser.add_argument("--task", default="", help="lerobot: what is done, in words, where episodes do not say it")
    parser.add_argument("--horizon", type=int, default=10, help="chunks: actions of each")
    parser.add_argument("--partial", action="store_true", help="also episodes that have not ended")
    parser.add_argument("--file-bytes", type=int, default=2**27, help="size of the files: what a kill can cost")
    parser.add_argument("--verify", action="store_true", help="compare all of it with the source afterwards")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
