"""The command line that makes a run: its recipe and whatever differs from the presets."""

from __future__ import annotations

import shlex
from pathlib import Path

from distwm import config as configuration
from distwm.casting import as_text
from replay.errors import BadInput


def command_of(path: Path) -> str:
    """From a saved config.yaml; empty if it is not there or of another version of the presets."""
    if not path.is_file():
        return ""
    try:
        saved = configuration.load_saved(path)
        presets = configuration.load(saved.recipe, {"size": saved.size})
    except BadInput:
        return ""
    wanted, usual = (configuration.public_leaves(config) for config in (saved, presets))
    words = ["size=" + saved.size] if saved.size != configuration.load(saved.recipe, {}).size else []
    words += [
        f"{key}={as_text(value)}" for key, value in wanted.items() if value != usual.get(key) and key != "run_dir"
    ]
    return shlex.join(["python", "-m", "distwm.run", saved.recipe, *words])
