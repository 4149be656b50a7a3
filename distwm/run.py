"""`python -m distwm.run <recipe> [key=value ...]`: trains, evaluates and reports. The same command again resumes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from distwm.cli import exit_code

EPILOG = """\
exit codes: 0 done; 2 bad configuration or input; 3 something is missing on this machine (its message says how to
install it); 4 training failed for good; 75 the replay or the cluster is away, try again; 130, 143 stopped by a signal
after a final checkpoint. The same command again resumes. DISTWM_DEBUG=1 shows tracebacks.

examples:
  python -m distwm.run dreamer4                                  about 25 minutes on two cores
  python -m distwm.run dreamer4 size=tiny                        every stage once, in a minute
  python -m distwm.run dreamer4 env.task=dmc/reacher_easy tokenizer.lr=1e-4 seed=3
  python -m distwm.run dreamer4 seeds=0,1,2                      three runs and one report over them
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""

    def command() -> int:
        from distwm import commands

        return commands.run(_parser().parse_intermixed_args(words))

    return exit_code(command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distwm.run",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="a recipe of configs/, such as dreamer4, or the path of a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings; seeds=0,1,2 runs several seeds")
    parser.add_argument(
        "--help-config", action="store_true", help="list every setting with its type, default and meaning"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and the stages, then stop"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
