"""What every command line has in common: one line on stderr for whatever a person can mend, and its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from distwm.checkout import misplaced


def exit_code(command: Callable[[], int]) -> int:
    """The exit code of `command()`, which imports our packages itself: not before they are known to be ours.

    Everything a person can mend is one line on stderr; tracebacks are for DISTWM_DEBUG.
    """
    if problem := misplaced():
        sys.stderr.write(f"distwm: {problem}\n")
        return 3
    from replay.errors import DistwmError

    try:
        return command()
    except DistwmError as error:
        if os.environ.get("DISTWM_DEBUG"):
            raise
        sys.stderr.write(f"distwm: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
