"""What becomes of the memory of freed tensors."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's numbers for them, of malloc.h
_LARGEST = 32 * 2**20  # bytes, the most that glibc takes for the second


def keep_freed() -> bool:
    """Lets this process keep freed memory for its next tensors. False where the C library is not glibc.

    By itself glibc gives memory back between two updates and gets it again page by page, which the system clears each
    time: a tenth of an update where tensors have a few hundred kilobytes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
