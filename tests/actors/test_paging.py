from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.lane import Record
from actors.paging import PAGE, Pages


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40), st.booleans()), max_size=8))
def test_every_record_arrives_once_and_in_order(episodes: list[tuple[int, int, bool]]) -> None:
    """Of each environment; what is held back at the end belongs to episodes without a last record."""
    given_out, arrived = defaultdict(list), defaultdict(list)

    def take(number: int, records: list[Record]) -> None:
        assert 0 < len(records) <= PAGE
        assert not any(record["is_first"] for record in records[1:])
        arrived[number] += [int(record["name"]) for record in records]

    pages = Pages(take)  # type: ignore[arg-type]
    name, is_whole = 0, {}
    for number, length, whole in episodes:
        for t in range(length):
            flags = {"is_first": np.array(t == 0), "is_last": np.array(whole and t == length - 1)}
            pages(number, {**flags, "name": np.array(name)})
            given_out[number].append(name)
            name += 1
        is_whole[number] = whole
    for number, names in given_out.items():
        got = arrived[number]
        assert got == names[: len(got)]
        assert len(names) - len(got) < (1 if is_whole[number] else PAGE)
