"""Memory of batches is used again, and never while anything still points at it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replay.arena.buffers import BufferPool

SHAPE = (8, 64, 64, 3)
HOLDERS = {
    "the array": lambda a: a,
    "a slice": lambda a: a[2, 1:],
    "a reshaped transpose": lambda a: a.reshape(-1, 3).T,
    "another dtype": lambda a: a.view(np.int8),
    "a memoryview": memoryview,
    "an iterator": iter,
    "a flat iterator": lambda a: a.flat,
    "a tensor": torch.from_numpy,
    "a part of a tensor": lambda a: torch.from_numpy(a)[1, 2:].unsqueeze(0),
    "a tensor by DLPack": torch.from_dlpack,
    "an array of a tensor": lambda a: torch.from_numpy(a)[1].numpy(),
    "a C pointer": lambda a: a.ctypes,
    "a list of rows": list,
}


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again() -> None:
    pool = BufferPool()
    first = address(pool.take(SHAPE, "uint8"))
    for _ in range(10):
        array = pool.take(SHAPE, "uint8")
        assert address(array) == first
        assert array.shape == SHAPE
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
        assert array.flags.writeable
        del array
    assert pool.take((SHAPE[0], 64 * 64 * 3 // 4), "float32").dtype == np.float32
    assert pool.bytes == np.prod(SHAPE), "the same bytes as another type"


@pytest.mark.parametrize("holder", HOLDERS)
def test_nothing_that_is_held_is_lent(holder: str) -> None:
    pool = BufferPool()
    array = pool.take(SHAPE, "uint8")
    first, held = address(array), HOLDERS[holder](array)
    del array
    assert address(pool.take(SHAPE, "uint8")) != first
    del held
    gc.collect()
    kept = [pool.take(SHAPE, "uint8") for _ in range(2)]
    assert first in {address(a) for a in kept}


@given(st.lists(st.tuples(st.sampled_from([2**16, 2**17, 2**18]), st.integers(0, 5)), max_size=60))
def test_arrays_in_use_never_overlap(asked: list[tuple[int, int]]) -> None:
    """Each array is filled with a number of its own; the oldest is forgotten when there are too many."""
    pool, held = BufferPool(), []
    for number, (size, keep) in enumerate(asked):
        array = pool.take((size,), "uint8")
        array[:] = number
        held = [*held, (number, array[size // 2 :])][-keep or len(held) + 1 :]
        for expected, view in held:
            assert (view == expected).all()


def test_memory_of_sizes_that_are_over_goes_back() -> None:
    pool = BufferPool()
    pool.take((2**20,), "uint8")
    for size in range(2**16, 2**16 + 300):
        pool.take((size,), "uint8")
    assert pool.bytes < 80 * 2**17
