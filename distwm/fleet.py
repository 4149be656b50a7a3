"""`python -m distwm.fleet RUN_DIR`: how the runners of a run are; `--runners N` asks the run for another number."""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from distwm.cli import exit_code

if TYPE_CHECKING:
    from actors.fleet import Fleet

STATUS, REQUEST = "fleet.json", "fleet.request.json"
MOST = 10_000  # runners that anybody means to ask for
EPILOG = """\
The run writes down how its runners are after each slice of work, and takes a request at the next one. Runners that go
finish their episodes first; new ones start when Ray has the CPUs for them, those beyond `fleet.runners` outside what
the run has reserved. The request holds until the run ends; `fleet.runners=N` of the next command holds from its start.

exit codes: 0 done; 2 there is no such run, or no such number; 75 no run is at work there now.

examples:
  python -m distwm.fleet runs/dreamer4-cartpole_swingup-seed0
  python -m distwm.fleet runs/dreamer4-cartpole_swingup-seed0 --runners 4
  python -m distwm.fleet runs/dreamer4-cartpole_swingup-seed0 --json
"""

_log = logging.getLogger(__name__)


def save_status(path: Path, fleet: Fleet) -> dict[str, float]:
    """Writes down how the runners are, and returns the fleet's figures. A reader sees the old file or the new one,
    whole."""
    from distwm.rundir import write_atomically

    runners, figures = [asdict(status) for status in fleet.status()], fleet.figures()
    write_atomically(path, json.dumps({"time": time.time(), "runners": runners, "figures": figures}))
    return figures


def take_request(run_dir: Path) -> int | None:
    """The number of runners that somebody has asked for since the last call. What cannot be read is logged and gone."""
    path = run_dir / REQUEST
    taken = path.with_name(f".{REQUEST}.taken")
    try:
        path.replace(taken)
    except OSError:
        return None
    try:
        runners = json.loads(taken.read_text())["runners"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("The request in %s cannot be read (%s).", path, error)
        return None
    finally:
        taken.unlink(missing_ok=True)
    if type(runners) is not int or not 1 <= runners <= MOST:
        _log.warning("The request in %s for %r runners is none.", path, runners)
        return None
    return runners


def request(run_dir: Path, runners: int) -> None:
    """Asks the run at work in `run_dir` for so many runners. Raises BadInput for a number out of bounds, TryAgain if
    no run is at work there."""
    from distwm.rundir import write_atomically
    from replay.errors import BadInput, TryAgain

    if not 1 <= runners <= MOST:
        raise BadInput(f"A run cannot have {runners} runners.", f"Ask for 1 to {MOST}.")
    if not at_work(run_dir):
        raise TryAgain(f"No run is at work in {run_dir}.", f"Start it with fleet.runners={runners}.")
    write_atomically(run_dir / REQUEST, json.dumps({"runners": runners}))


def at_work(run_dir: Path) -> bool:
    """Whether a driver holds the directory."""
    try:
        with (run_dir / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def read_status(run_dir: Path) -> dict[str, Any]:
    """What `save_status` wrote. Raises BadInput if there is no run, TryAgain if its runners have not begun."""
    from replay.errors import BadInput, TryAgain

    if not (run_dir / "config.yaml").is_file():
        raise BadInput(f"{run_dir} holds no run.", "Name the run_dir of a run.")
    try:
        return json.loads((run_dir / STATUS).read_text())
    except FileNotFoundError:
        raise TryAgain(f"The runners of {run_dir} have not begun.", "Look again after its first slice.") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{run_dir / STATUS} cannot be read: {error}.", "Remove it; the run writes it again.") from error


def show(status: Mapping[str, Any], working: bool, stream: IO[str]) -> None:
    """A row for each runner, what failed last, and a line for all."""
    from rich.console import Console
    from rich.table import Column, Table

    numbers = (Column(name, justify="right") for name in ("steps", "episodes", "steps/s", "lag"))
    table = Table("runner", Column("task", no_wrap=True), Column("state", no_wrap=True), *numbers, "failures")
    for runner in status["runners"]:
        table.add_row(*_cells(runner))
    console = Console(file=stream, highlight=False, markup=False)
    console.width = max(console.width, 120)
    console.print(table)
    for runner in (runner for runner in status["runners"] if runner["last_error"]):
        console.print(f"runner {runner['index']}, its last failure: {runner['last_error']}", soft_wrap=True)
    figures = status["figures"]
    age = f"{max(0.0, time.time() - status['time']):.0f} s ago"
    console.print(
        f"{figures['up']:.0f} of {figures['runners']:.0f} runners up, {figures['steps']:.0f} steps in "
        f"{figures['episodes']:.0f} episodes, {figures['restarts']:.0f} restarts; as it was {age}"
        + ("" if working else ", when the run was last at work")
    )


def _cells(runner: Mapping[str, Any]) -> list[str]:
    state = f"{runner['state']} {runner['again_s']:.0f} s" if runner["again_s"] > 0 else runner["state"]
    lag = f"{runner['lag']}, {runner['lag_s']:.0f} s" if runner["lag"] else "0"
    counts = (str(runner["steps"]), str(runner["episodes"]), f"{runner['steps_per_s']:.1f}", lag)
    failures = ", ".join(f"{reason} {count}" for reason, count in runner["failures"].items())
    return [str(runner["index"]), runner["task"], state, *counts, failures]


def main(words: Sequence[str]) -> int:
    """The exit code."""
    given = _parser().parse_args(words)
    return exit_code(_command(given))


def _command(given: argparse.Namespace) -> Callable[[], int]:
    def command() -> int:
        status = read_status(given.run_dir)
        if given.runners is not None:
            request(given.run_dir, given.runners)
            now = len(status["runners"])
            sys.stdout.write(f"Asked for {given.runners} runners; there are {now}. It holds from the next slice.\n")
        elif given.json:
            sys.stdout.write(json.dumps(status | {"at_work": at_work(given.run_dir)}) + "\n")
        else:
            show(status, at_work(given.run_dir), sys.stdout)
        return 0

    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distwm.fleet",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--runners", type=int, metavar="N", help="so many from now on")
    what.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
