"""What the command line does once its words are understood."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from distwm.config import RunConfig, dump, load, parse_overrides
from distwm.console import Console, print_plan
from distwm.rundir import RunDir, resolve_run_dir


def run(arguments: argparse.Namespace) -> int:
    """One run, a study of several seeds, or what `--help-config` and `--dry-run` print. Returns the exit code."""
    given = parse_overrides(arguments.overrides)
    seeds = given.pop("seeds", None)
    config = load(arguments.recipe, given)
    if arguments.help_config:
        from distwm.help import print_settings

        print_settings(config, sys.stdout)
        return 0
    if arguments.dry_run:
        sys.stdout.write(dump(config))
        print_plan(config, sys.stdout)
        return 0
    if seeds is not None:
        from distwm.study import run_study

        return run_study(config, arguments.recipe, given, seeds)
    return _run_one(config)


def _run_one(config: RunConfig) -> int:
    from distwm.preflight import check_machine
    from distwm.records import note_provenance

    provenance = check_machine(config)
    run_dir = RunDir(resolve_run_dir(config, f"seed{config.seed}"))
    with run_dir.owned():
        run_dir.claim(config)
        note_provenance(run_dir.root, provenance)
        with output_to(run_dir.log) as terminal:
            from distwm.driver import drive  # Ray and torch: seconds that a mistyped key should not cost

            console = Console(terminal, config.log.every_s)
            signal_number = drive(config, run_dir, console)
            if signal_number:
                console.say(f"Stopped by signal {signal_number} after a checkpoint; the same command goes on.")
                return 128 + signal_number
            from distwm.report import write_report

            console.say(f"Done: {write_report(run_dir.root)}")
    return 0


@contextmanager
def output_to(path: Path) -> Iterator[IO[str]]:
    """Sends all that this process and its libraries print to the log; yields the real standard output.

    On the level of file descriptors, since Ray's and MuJoCo's native code print as well.
    """
    saved = {number: os.dup(number) for number in (1, 2)}
    terminal = os.fdopen(os.dup(saved[1]), "w", buffering=1, encoding="utf-8")
    with path.open("a") as log, terminal:
        logging.basicConfig(stream=log, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        try:
            for number in saved:
                os.dup2(log.fileno(), number)
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, original in saved.items():
                os.dup2(original, number)
                os.close(original)
