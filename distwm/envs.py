"""`python -m distwm.envs`: list environments, look at one, check that it keeps its contract, watch it, install it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distwm.cli import exit_code

EPILOG = """\
commands:
  list [SUITE]              the suites, or the tasks of one, a line each
  info TASK                 what an environment shows, takes and says of itself
  check TASK... --all SUITE whether environments keep their contract, and how fast they step
  watch TASK                a video of a policy
  install NAME              what needs an interpreter of its own: the simulators libero, minerl and robosuite; lerobot
                            for its policies; openpi-client for tests. Resumes

Tasks are named suite/task. Settings are those of `env` in a run, as key=value: image_size=64 action_repeat=2.

exit codes: 0 done; 2 unknown names, or an environment that breaks its contract; 3 something is missing on this machine
(the message says how to install it). DISTWM_DEBUG=1 shows tracebacks.

examples:
  python -m distwm.envs info hybrid/platform
  python -m distwm.envs check dmc/walker_walk image_size=64 render_size=64
  python -m distwm.envs check --all dmc hybrid --json
  python -m distwm.envs watch dmc/cartpole_swingup --policy expert --out swingup.mp4
"""


def main(words: Sequence[str]) -> int:
    """The exit code."""
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    parser = argparse.ArgumentParser(
        prog="python -m distwm.envs",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("words", nargs=argparse.REMAINDER, help="see below, or COMMAND --help")
    given = parser.parse_args(words)
    command, arguments = _COMMANDS[given.command]
    own = argparse.ArgumentParser(prog=f"python -m distwm.envs {given.command}")
    arguments(own)
    parsed = own.parse_intermixed_args(given.words)
    return exit_code(lambda: command(parsed))


def _list(given: argparse.Namespace) -> int:
    from distwm.envs_show import print_suites, print_tasks

    if given.suite:
        print_tasks(given.suite, sys.stdout)
    else:
        print_suites(sys.stdout)
    return 0


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", nargs="?", help="its tasks instead of all suites")


def _info(given: argparse.Namespace) -> int:
    from distwm.envs_show import configured, print_info

    print_info(configured(given.task, given.settings), sys.stdout)
    return 0


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("settings", nargs="*", metavar="key=value")


def _check(given: argparse.Namespace) -> int:
    from actors.contract import CheckConfig
    from distwm.envs_check import check_all
    from distwm.envs_show import configured, every

    settings = [word for word in (*given.words, *given.all) if "=" in word]
    tasks = [word for word in given.words if "=" not in word]
    tasks += every(word for word in given.all if "=" not in word)
    how = CheckConfig(decisions=given.decisions, measure_s=given.measure_s, clock=given.clock, seed=given.seed)
    return check_all([configured(task, settings) for task in tasks], how, sys.stdout, given.format)


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="TASK", help="tasks, and settings as key=value")
    parser.add_argument("--all", nargs="+", default=[], metavar="SUITE", help="every task of these suites")
    parser.add_argument("--decisions", type=int, default=40, help="of each episode that is compared; default 40")
    parser.add_argument("--measure-s", type=float, default=1.0, help="seconds a rate; 0 for none; default 1")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: of this process, which others disturb less"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the actions; default 0")
    formats = parser.add_mutually_exclusive_group()
    for name in ("json", "markdown"):
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="table")


def _watch(given: argparse.Namespace) -> int:
    from distwm.envs_show import configured
    from distwm.envs_watch import watch

    config = configured(given.task, ["render_size=256", "image_size=256", *given.settings])
    sys.stdout.write(f"{watch(config, given.policy, given.out, given.seed, given.steps)}\n")
    return 0


def _watch_arguments(parser: argparse.ArgumentParser) -> None:
    _info_arguments(parser)
    parser.add_argument("--policy", default="random", help="random (the default), ou or expert")
    parser.add_argument("--out", type=Path, metavar="FILE.mp4", help="named after task and policy if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the episode; default 0")
    parser.add_argument("--steps", type=int, default=500, help="decisions at most; default 500")


def _install(given: argparse.Namespace) -> int:
    from actors.hosting.install import install

    install(given.name, lambda line: print(line, flush=True))  # noqa: T201
    return 0


def _install_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="libero, minerl, robosuite, lerobot or openpi-client")


Command = Callable[[argparse.Namespace], int]
Arguments = Callable[[argparse.ArgumentParser], None]
_COMMANDS: Mapping[str, tuple[Command, Arguments]] = {
    "list": (_list, _list_arguments),
    "info": (_info, _info_arguments),
    "check": (_check, _check_arguments),
    "watch": (_watch, _watch_arguments),
    "install": (_install, _install_arguments),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
