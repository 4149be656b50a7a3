"""Makes the interpreters of packages that cannot share ours. Run again, it goes on where it was stopped."""

from __future__ import annotations

import ctypes.util
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from actors.hosting.guests import minerl_game
from actors.hosting.interpreters import NAMES, STAMP, home
from replay.errors import BadInput, Missing, TryAgain

Report = Callable[[str], None]

REQUIREMENTS = Path(__file__).with_name("requirements")
STEP_S = 3600.0  # for one call of pip, which may have much to fetch
LOCK_S = 3600.0  # for another process that installs the same
LOOK_S = 5.0
ASK_S = 60.0  # for a program to say its version


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of pip in the new interpreter."""

    what: str
    requirements: str  # a file in requirements/
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return REQUIREMENTS / self.requirements

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.file.read_bytes() + repr((self.options, self.variables)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one interpreter is made, and what shows that it works."""

    python: str  # version
    steps: Sequence[Step]
    imports: str


RECIPES: Mapping[str, Recipe] = {
    "libero": Recipe(
        python="3.11",
        steps=(
            Step(what="MuJoCo and its company", requirements="libero.txt"),
            Step(what="LIBERO", requirements="libero-alone.txt", options=("--no-deps",)),
        ),
        imports="mujoco, robosuite, bddl, msgpack",  # not libero itself, which asks a question
    ),
    "robosuite": Recipe(
        python="3.11",
        steps=(Step(what="robosuite", requirements="robosuite.txt"),),
        imports="mujoco, robosuite, msgpack",
    ),
    "minerl": Recipe(
        python="3.8",
        steps=(
            Step(what="an older pip", requirements="minerl-first.txt"),
            Step(what="what MineRL imports", requirements="minerl.txt"),
            Step(
                what="MineRL",
                requirements="minerl-alone.txt",
                options=("--no-deps",),
                variables={"READTHEDOCS": "1"},
            ),
        ),
        imports="minerl, minerl.data, msgpack",
    ),
    "lerobot": Recipe(
        python="3.12",
        steps=(Step(what="lerobot with pi0.5, several gigabytes with CUDA", requirements="lerobot.txt"),),
        imports="torch, transformers, lerobot, msgpack, websockets",
    ),
    "openpi-client": Recipe(
        python="3.11",
        steps=(Step(what="openpi's own client, to compare with", requirements="openpi-client.txt"),),
        imports="openpi_client.websocket_client_policy, openpi_client.image_tools",
    ),
}


def install(name: str, report: Report) -> Path:
    """The Python of the finished installation. Raises BadInput for an unknown name, Missing for what the machine lacks:
    before anything is done if that is Python, else when all that can be done is done."""
    if name not in RECIPES:
        raise BadInput(f"There is nothing to install for {name!r}.", f"Choose one of: {', '.join(NAMES)}.")
    recipe, folder = RECIPES[name], home() / name
    python = folder / "bin" / "python"
    stamp = " ".join(step.digest for step in recipe.steps)
    with _alone(folder, report):
        if not _has(folder / STAMP, stamp):
            _make(folder, find_python(recipe.python), report)
            for step in recipe.steps:
                _run(step, folder, report)
            _check_imports(python, recipe.imports)
            (folder / STAMP).write_text(stamp)
    report(f"{name} is installed in {folder}")
    if missing := [*lacking(name)]:
        notes = ["Recorded data and the spaces of its tasks need no game."] if name == "minerl" else []
        raise Missing(" ".join([*(one.message for one in missing), *notes]), " ".join(one.mend for one in missing))
    return python


def lacking(name: str) -> Iterator[Missing]:
    """What the machine itself lacks for running the environment, one after the other."""
    renders = name in ("libero", "robosuite") and os.environ.get("MUJOCO_GL", "osmesa") == "osmesa"
    if renders and ctypes.util.find_library("OSMesa") is None:
        yield Missing(
            "There is no software renderer (libOSMesa).",
            "Run: apt-get install --no-install-recommends libosmesa6 (or set MUJOCO_GL=egl where EGL works).",
        )
    if name == "libero" and not (Path(os.environ.get("DISTWM_LIBERO_ASSETS", "")) / "scenes").is_dir():
        yield Missing(
            "LIBERO's assets (meshes and textures) come with no package.",
            "Set DISTWM_LIBERO_ASSETS, or env.assets, to the folder that holds scenes/ and textures/.",
        )
    if name == "minerl":
        for what, mend in minerl_game.lacking(_game_folder()):
            yield Missing(f"{what}.", mend)


def _game_folder() -> Path:
    """Where MineRL's game is looked for: what is configured, or the package that was installed."""
    given = os.environ.get("DISTWM_MINERL_GAME", "")
    package = next(iter(sorted((home() / "minerl").glob("lib/python*/site-packages/minerl"))), home() / "minerl")
    return Path(given).expanduser() if given else package / "Malmo" / "Minecraft"


def find_python(version: str) -> Path:
    """A Python of that version: our own, one on PATH, one of pyenv's or uv's. Raises Missing."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places = [
        Path(getattr(sys, "_base_executable", sys.executable)),
        Path(shutil.which(f"python{version}") or "/nowhere"),
        *sorted(root.glob(f"versions/{version}.*/bin/python")),
        *sorted((Path.home() / ".local/share/uv/python").glob(f"cpython-{version}.*/bin/python")),
    ]
    for place in places:
        if _python_version(place) == version:
            return place
    raise Missing(
        f"There is no Python {version} on this machine.",
        f"Install it: uv python install {version}, or pyenv install {version}.",
    )


def _python_version(python: Path) -> str:
    """Empty if it is none; a shim of pyenv may be there and run nothing."""
    if not python.exists():
        return ""
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=ASK_S)
    return said.stdout.strip()


@contextmanager
def _alone(folder: Path, report: Report) -> Iterator[None]:
    """Nobody else installs there meanwhile. Raises TryAgain when somebody takes too long."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_S
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TryAgain(f"Another process installs {folder}.", "Wait for it, then run this again.") from None
                report(f"waits for the process that installs {folder}")
                time.sleep(LOOK_S)
        yield


def _make(folder: Path, python: Path, report: Report) -> None:
    """The empty virtual environment, unless it is there."""
    (folder / STAMP).unlink(missing_ok=True)  # until it is as the requirements have it now
    if _has(folder / "distwm-made", str(python)):
        return
    report(f"makes {folder} with {python}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-I", "-m", "venv", folder], check=True, timeout=STEP_S, stdin=subprocess.DEVNULL)
    (folder / "distwm-made").write_text(str(python))


def _run(step: Step, folder: Path, report: Report) -> None:
    """Unless it was done. Raises Missing with pip's last words."""
    done = folder / f"distwm-{Path(step.requirements).stem}"
    if _has(done, step.digest):
        return
    report(f"installs {step.what}")
    begun = time.monotonic()
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--no-input", "-r", str(step.file), *step.options]
    log = folder / "install.log"
    with open(log, "ab") as output:
        status = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=STEP_S,
            env={**os.environ, **step.variables},
        ).returncode
    if status:
        words = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        raise Missing(
            f"{step.what} could not be installed: {words[-1] if words else f'pip ended with {status}'}",
            f"Read {log}; then run the same command again.",
        )
    done.write_text(step.digest)
    report(f"{step.what}: {time.monotonic() - begun:.0f} s")


def _check_imports(python: Path, names: str) -> None:
    command = [str(python), "-I", "-c", f"import {names}"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=STEP_S, stdin=subprocess.DEVNULL)
    if said.returncode:
        last = said.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise Missing(f"{python} cannot import {names}: {last[0]}", f"Remove {python.parents[1]} and install it again.")


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text
