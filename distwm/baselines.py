"""`python -m distwm.baselines sac env=SUITE/TASK out=DIR`: a known algorithm in the same environment and steps.

Evaluations on the way start where those of our runs start, and are written as theirs: DIR/seed<n>/results/curve.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from distwm.cli import exit_code

EPILOG = """\
Steps are the simulator's: a decision is env.action_repeat of them. Settings: those of env.*, and

  steps=40000               of each seed, the random episodes in front included
  seeds=0,1,2               one run each; a finished one is not run again
  evaluate.every=5000       steps between evaluations of evaluate.episodes=5, which start as evaluate.seed=1000 says
  sac.lr=3e-4               sac.batch_size=128 sac.hidden=256,256 sac.gamma=0.99 sac.tau=0.005 sac.seed_episodes=10

exit codes: 0 done; 2 bad configuration or input; 3 something is missing; 4 training failed; 75 try again.

examples:
  python -m distwm.baselines sac env=dmc/cartpole_swingup steps=40000 seeds=0,1,2 out=runs/sac-swingup
  python -m distwm.baselines sac env=dmc/walker_walk evaluate.every=10000 steps=100000 out=runs/sac-walker
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""
    return exit_code(lambda: _run(_parser().parse_args(words)))


def _run(arguments: argparse.Namespace) -> int:
    from distwm.baseline import BaselineConfig, train_all
    from distwm.config import parse_overrides
    from distwm.overrides import apply

    given = dict(parse_overrides(arguments.settings))
    if "env" in given:
        given["env.task"] = given.pop("env")
    train_all(apply(BaselineConfig(), given))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distwm.baselines",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("algorithm", choices=["sac"], help="sac: Soft Actor-Critic as RLlib has it")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
