"""The C library takes the settings under which freed memory is kept; what they bring is measured in tests/bench."""

from __future__ import annotations

import platform

import pytest
import torch

from learners.allocator import keep_freed


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_glibc_takes_the_settings() -> None:
    assert keep_freed()
    assert float(torch.ones(2**24).sum()) == 2**24
