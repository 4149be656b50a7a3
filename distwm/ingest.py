"""`python -m distwm.ingest <format> PATH --out DIR`: recorded data of another kind becomes ours. Resumes."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distwm.cli import exit_code

if TYPE_CHECKING:
    from actors.data.options import ReadOptions

EPILOG = """\
formats:
  lerobot     a LeRobot data set of version 3 (those that distwm.export wrote come back bit by bit)
  libero      HDF5 demonstrations of LIBERO or robomimic, a file or a folder; needs pip install 'distwm[hdf5]'
  minerl      MineRL v0: the data's folder, or that of one environment in it
  video       .mp4 files without any labels: the actions are zeros, and the data set says so
  vpt         recordings of VPT's contractors, pairs of .mp4 and .jsonl

Long recordings are cut into episodes; each begins with the observation that the one before ends with.

A run takes recorded data as a part of its experience: replay.mixture=live=0.5,DIR=0.5. The same command again goes on
where it was interrupted; at most one unfinished shard is read again.

examples:
  python -m distwm.ingest lerobot ~/pusht --out data/pusht --verify
  python -m distwm.ingest lerobot ~/aloha --out data/aloha --rename observation.images.top=image
  python -m distwm.ingest minerl ~/minerl/MineRLTreechop-v0 --out data/treechop
  python -m distwm.ingest vpt ~/vpt/6.9 --out data/vpt --image-size 128
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""
    return exit_code(lambda: _ingest(_parser().parse_args(words)))


def _ingest(arguments: argparse.Namespace) -> int:
    from distwm.copying import compare, complain, copy
    from distwm.formats import reader_of
    from replay.config import ReplayConfig
    from replay.dataset.verify import verify
    from replay.dataset.writer import DatasetWriter
    from replay.sources.dataset_source import DatasetSource
    from replay.sources.source_reader import SourceReader

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    reader = reader_of(arguments.format, Path(arguments.path), _renamed(arguments.rename), _options(arguments))
    out = Path(arguments.out).resolve()
    writer = DatasetWriter(
        out, reader.spec, name=arguments.name or out.name, origin=reader.origin, shard_bytes=arguments.file_bytes
    )
    wrong = copy(reader, writer, "ingest", sys.stdout)
    if arguments.verify:
        verify(out)
        source = DatasetSource(out, ReplayConfig(arena_bytes=0))
        compare(SourceReader(source, {}, partial=True), reader.named, sys.stdout)
        source.close()
    complain(wrong, reader.episodes)
    return 0


def _options(arguments: argparse.Namespace) -> ReadOptions:
    from actors.data.options import ReadOptions

    names = ("image_size", "action_dim", "drop_null", "segment_steps")
    return ReadOptions(**{name: getattr(arguments, name) for name in names})


def _renamed(words: Sequence[str]) -> dict[str, str]:
    from replay.errors import BadInput

    if wrong := [word for word in words if "=" not in word]:
        raise BadInput(f"{wrong[0]!r} is not another name.", "Write --rename COLUMN=FIELD.")
    return {column: field for column, _, field in (word.partition("=") for word in words)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distwm.ingest",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", help="what PATH holds, see below")
    parser.add_argument("path", metavar="PATH", help="where the data is")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new directory, or one to go on with")
    parser.add_argument("--name", default="", help="of the data set; the name of DIR if not given")
    parser.add_argument(
        "--rename", action="append", default=[], metavar="COLUMN=FIELD", help="names a field; nothing leaves it out"
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="of frames; 64 of videos, else as stored")
    parser.add_argument("--action-dim", type=int, default=0, metavar="N", help="video: width of its zero actions")
    parser.add_argument("--drop-null", action="store_true", help="vpt: leave out steps in which nothing was pressed")
    parser.add_argument(
        "--segment-steps", type=int, metavar="N", help="decisions of the episodes cut out of recordings"
    )
    parser.add_argument("--file-bytes", type=int, default=2**27, help="size of the files: what a kill can cost")
    parser.add_argument("--verify", action="store_true", help="compare all of it with the original afterwards")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
