"""Whether Python finds our four packages where it should. Imports nothing of ours, for they may be somebody else's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGES = ("actors", "learners", "replay")


def misplaced() -> str | None:
    """What is wrong, in one line, or None. `actors`, `learners` and `replay` are names that others use too."""
    root = Path(__file__).resolve().parent.parent
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != root / name / "__init__.py":
            found = f"is {origin}, not the one beside distwm" if origin else "is not on Python's path"
            return f"The package {name!r} {found}. Mend: cd {root}, or pip install -e {root} in a fresh environment."
    return None
