"""`python -m distwm.collect TASK[:RUNNERS][=POLICY] ... episodes=N out=DIR`: plays environments side by side into one
replay, without training. The same command again goes on where it stopped."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from distwm.cli import exit_code

EPILOG = """\
A word with a slash is a task, the number of runners that play it (1), and who acts (behaviour: the task's expert,
disturbed, where it has one; else random). Settings: episodes= of each task, minutes= of collecting in all, out=, seed=,
and any key of env. behaviour. runner. fleet. replay. and cluster., for all tasks; --help-config lists them.

A word alone is a collection with a name, from configs/collect; what is given beside it wins. Without out= it goes to
runs/NAME-SUITE.

Each task becomes a replay run of its own in DIR, its episodes labelled with the policy's name. `python -m distwm.replay
status|verify DIR` and `python -m distwm.export dataset DIR --run NAME` read it.

exit codes: 0 done; 2 bad configuration or input; 3 something is missing on this machine (its message says how to
install it); 75 try again: a task's runners have all been given up, or the replay or the cluster is away; 130, 143
stopped by a signal. The same command again plays what is missing: no episode is lost, none is played twice.

examples:
  python -m distwm.collect dmc/walker_walk:2 libero/libero_object/4 crafter/reward episodes=50 out=runs/mixed
  python -m distwm.collect dmc/cartpole_swingup=expert dmc/cartpole_swingup=random episodes=20 out=runs/graded
  python -m distwm.collect dmc/walker_walk:4 minutes=10 env.pixels=false replay.url=redis://HOST:6380 out=runs/walker
  python -m distwm.collect pi05 suite=libero_spatial episodes=50 source.url=ws://HOST:8000
                                                               to runs/pi05-libero_spatial
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""

    def command() -> int:
        from distwm.collect.command import run

        return run(_parser().parse_intermixed_args(words))

    return exit_code(command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distwm.collect",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="TASK[:RUNNERS][=POLICY] | key=value", help="see below")
    parser.add_argument(
        "--help-config", action="store_true", help="list every setting with its type, default and meaning"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
