"""The program of a policy server that ends with the process that started it: `python -I child.py ROOT WORDS...`, where
the words are those of `python -m actors.sources.server`. For interpreters of other packages (Python 3.11 or later)."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # nothing else is imported, and no thread runs, before the fork
    sys.path.append(sys.argv[1])
    from actors.hosting import guardian

    guardian.fork_guarded()
    from actors.sources.server import main

    sys.exit(main(sys.argv[2:]))
