"""The manifest of a collection as others read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from replay.errors import BadInput

MANIFEST = "collect.json"
VERSION = 1


def read_manifest(root: Path) -> dict[str, Any]:
    """Raises BadInput if it cannot be read."""
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        assert manifest["version"] == VERSION
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise BadInput(f"{root / MANIFEST} cannot be read: {error!r}.", "Give another out=.") from error
    return manifest
