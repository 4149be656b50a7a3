"""`python -m distwm.play RUN_DIR` lets you play a run's world model in the browser; `--bench N` only measures it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from replay.errors import BadInput, DistwmError


def main(words: Sequence[str]) -> int:
    """The exit code."""
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    parser = argparse.ArgumentParser(prog="python -m distwm.play", description=__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1; default 8000")
    parser.add_argument("--fps", type=float, default=15.0, help="frames a second; default 15")
    parser.add_argument("--context", type=int, default=8, help="true frames before the dream; default 8")
    parser.add_argument("--seed", type=int, default=0, help="start state of the first dream; default 0")
    parser.add_argument("--bench", type=int, default=0, metavar="N", help="dream N frames as fast as it goes, and stop")
    given = parser.parse_args(words)
    try:
        if given.fps <= 0 or given.context < 1:
            raise BadInput(f"--fps {given.fps} or --context {given.context} is too small.", "Give more than 0.")
        _play(given)
    except DistwmError as error:
        sys.stderr.write(f"distwm: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"distwm: port {given.port} cannot be used: {error}. Mend: give another --port.\n")
        return 2
    return 0


def _play(given: argparse.Namespace) -> None:
    from aiohttp import web  # seconds that a mistyped word should not cost

    from distwm.play.bench import bench
    from distwm.play.server import HOST, application
    from distwm.play.session import SessionConfig
    from distwm.play.world import load_world

    world = load_world(given.run_dir)
    if given.bench:
        pace = bench(world.player(), world.context(given.seed, given.context), given.bench)
        sys.stdout.write(f"{pace}\n")
        return
    config = SessionConfig(fps=given.fps, context=given.context, seed=given.seed)
    sys.stdout.write(f"http://{HOST}:{given.port}  (Ctrl-C ends it)\n")
    sys.stdout.flush()
    web.run_app(application(world, config), host=HOST, port=given.port, print=None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
