"""`python -m distwm.report RUN_DIR [RUN_DIR ...]` writes the report of a run anew, or one over several seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from distwm.report.study import write_study
from distwm.report.write import write_report
from replay.errors import DistwmError


def main(words: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m distwm.report", description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="several: also a study over them")
    parser.add_argument("--out", type=Path, help="folder of the study's report; default: report/ beside the runs")
    parser.add_argument("--baseline", type=Path, action="append", default=[], metavar="DIR", help="drawn beside")
    given = parser.parse_args(words)
    try:
        paths = [write_report(run_dir, given.baseline) for run_dir in given.run_dirs]
        if len(paths) > 1:
            paths.append(write_study(given.run_dirs, given.out, given.baseline))
    except DistwmError as error:
        sys.stderr.write(f"distwm: {error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
