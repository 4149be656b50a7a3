"""MineRL's game, Minecraft 1.11 under Malmo: what it needs, the folder it may write to, and its end.

Runs on Python 3.8 and the standard library, on both sides. The package starts the game itself, at the first reset:
`launchClient.sh` in a copy of the game's folder, in a process group of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

JAR = "build/libs/MalmoMod-0.37.0-fat.jar"  # what launchClient.sh looks for; without it, it would build for hours
BUILD = "./gradlew -g run/gradle shadowJar"
HEADLESS = "apt-get install --no-install-recommends xvfb xauth libgl1 libgl1-mesa-dri libglu1-mesa"
PREFIX = "distwm-minerl-"
ASK_S, END_S, LOOK_S = 60.0, 3.0, 0.02


def lacking(game: Path) -> Iterator[tuple[str, str]]:
    """What is missing for the game in that folder, each with an imperative mend."""
    version = java_version()
    if version != "1.8":
        yield (
            f"MineRL's game needs Java 8; {f'java here is {version}' if version else 'there is no java here'}",
            "Install Java 8 (openjdk-8-jdk; Eclipse Temurin where there is none) and put it first on PATH.",
        )
    if not (game / JAR).is_file():
        yield (
            f"MineRL's game comes with no package: {game} holds no {JAR}",
            f"Run, with Java 8 and access to Minecraft's servers: cd {game} && {BUILD}; "
            "or set env.assets or DISTWM_MINERL_GAME to a folder in which that was done.",
        )
    if not os.environ.get("DISPLAY") and shutil.which("xvfb-run") is None:
        yield "MineRL's game draws on an X display; there is neither a DISPLAY nor xvfb-run", f"Run: {HEADLESS}."


def java_version() -> str:
    """ "1.8", "17", ...; empty without a Java."""
    if shutil.which("java") is None:
        return ""
    said = subprocess.run(["java", "-version"], stderr=subprocess.PIPE, timeout=ASK_S, check=False).stderr.decode()
    number = said.partition('"')[2].partition('"')[0]
    return ".".join(number.split(".")[: 2 if number.startswith("1.") else 1])


class Scratch:
    """A folder for one environment's copy of the game and its logs, some hundred megabytes. What processes that were
    killed have left is removed by the next one: a lock says whether anybody still uses a folder."""

    def __init__(self) -> None:
        root = Path(tempfile.gettempdir())
        for left in root.glob(PREFIX + "*"):
            _remove_unused(left)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self._lock = (self.path / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_unused(folder: Path) -> None:
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # it is used, another's, gone meanwhile, or just being made
        return


def settle(game: Path, scratch: Path) -> None:
    """Says to the package where the game is and where it may write, before it starts one."""
    from minerl.env.malmo import InstanceManager
    from minerl.utils import process_watcher

    os.chdir(scratch)  # some of its logs go to where it was started
    tempfile.tempdir = str(scratch)
    os.environ["MALMO_MINECRAFT_OUTPUT_LOGDIR"] = str(scratch)
    os.environ.setdefault("MINERL_DEBUG_LOG", "1")  # the game's last words become those of this process
    if not os.environ.get("DISPLAY"):
        os.environ["MINERL_HEADLESS"] = "1"  # then launchClient.sh goes through xvfb-run
    InstanceManager.MINECRAFT_DIR = str(game)
    process_watcher.launch = lambda *_: None  # a guardian watches over everything that is started here


def end(process: Any) -> None:
    """Ends the game's process group, gently first: Xvfb then removes its lock."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + END_S
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
