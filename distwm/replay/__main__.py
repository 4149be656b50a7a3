"""`python -m distwm.replay status|verify|tail|evict WHERE`: looks after the experience of a run."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from distwm.cli import exit_code

EPILOG = """\
WHERE is the directory of a run, or of a collection, which has a run for each task: all in turn, or that of --run. Its
replay may be running or at rest. A Redis that is shared is given by its address:

  python -m distwm.replay status runs/dreamer4-point_mass_easy-seed0
  python -m distwm.replay verify --url 'rediss://$REDIS_USER:$REDIS_PASSWORD@HOST:6380' --run dreamer4-1f2e3d4c
  python -m distwm.replay tail RUN_DIR -n 50 --follow
  python -m distwm.replay evict RUN_DIR --bytes 2GiB

$NAME is taken from the environment. Exit codes: 0 done; 2 bad input, or damage found; 75 a server is away, try again.
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""
    arguments = _parser().parse_args(words)

    def command() -> int:
        from distwm.replay import commands

        return commands.for_each_run(getattr(commands, arguments.command), arguments)

    return exit_code(command)


def _parser() -> argparse.ArgumentParser:
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("where", nargs="?", default="", metavar="WHERE", help="the directory of a run")
    where.add_argument("--url", default="", help="servers instead of a directory, separated by commas")
    where.add_argument("--run", default="", help="the run's name, where there are several")
    parser = argparse.ArgumentParser(
        prog="python -m distwm.replay",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    status = commands.add_parser("status", parents=[where], help="shards, streams, consumers, rates, limiter: live")
    status.add_argument("--once", action="store_true", help="print one page; so does an output that is no terminal")
    status.add_argument("--json", action="store_true", help="one page as JSON")
    status.add_argument("--every", type=_seconds, default=1.0, metavar="S", help="seconds between two looks (1)")
    commands.add_parser("verify", parents=[where], help="read every chunk and compare it with the index")
    tail = commands.add_parser("tail", parents=[where], help="the newest chunks, a line each")
    tail.add_argument("-n", type=_count, default=20, dest="lines", help="how many (20)")
    tail.add_argument("--follow", action="store_true", help="go on with what is committed from now on")
    tail.add_argument("--every", type=_seconds, default=0.5, metavar="S", help="seconds between two looks (0.5)")
    evict = commands.add_parser("evict", parents=[where], help="drop the oldest chunks")
    evict.add_argument("--bytes", type=_bytes, required=True, help="to be freed in all: 500000, 300MB, 2GiB")
    evict.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _seconds(text: str) -> float:
    if not 0.1 <= float(text) <= 3600:
        raise argparse.ArgumentTypeError("give 0.1 to 3600 seconds")
    return float(text)


def _count(text: str) -> int:
    if not 0 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError("give 0 to 100000")
    return int(text)


def _bytes(text: str) -> int:
    from distwm.replay.view import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    logging.getLogger("replay").setLevel(logging.ERROR)  # what is away is on the page
    sys.exit(main(sys.argv[1:]))
