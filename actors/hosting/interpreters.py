"""Where the interpreters of packages with conflicting needs are: one virtual environment for each."""

from __future__ import annotations

import os
from pathlib import Path

from replay.errors import Missing

NAMES = ("libero", "robosuite", "minerl", "lerobot", "openpi-client")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}  # files alone
STAMP = "distwm-installed"  # in the folder of an installation that was finished; holds what it was made from


def home() -> Path:
    """$DISTWM_ENVS, else ~/.cache/distwm/envs."""
    return Path(os.environ.get("DISTWM_ENVS") or Path.home() / ".cache" / "distwm" / "envs").expanduser()


def interpreter(name: str) -> Path:
    """The Python of an installation. Raises Missing."""
    folder = home() / name
    if not (folder / STAMP).exists():
        raise Missing(
            f"{name} is not installed in {folder}: it needs an interpreter of its own.",
            f"Run: python -m distwm.envs install {name}",
        )
    return folder / "bin" / "python"


def variables(name: str) -> dict[str, str]:
    """Of the environment of every process with that interpreter."""
    if name == "lerobot":
        return OFFLINE
    return {
        "MUJOCO_GL": os.environ.get("MUJOCO_GL", "osmesa"),
        "OMP_NUM_THREADS": "1",
        "NUMBA_CACHE_DIR": str(home() / name / "numba"),  # compiled once for all processes
    }
