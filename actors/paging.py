"""Records by the page, for sinks that do much for each one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from actors.lane import Record

PAGE = 64  # records at most


class Pages:
    """A sink that passes records on by the page, and what is left at an episode's end. What handles a record then runs
    for many of them in a row, and is not fetched into the processor's caches again after each step of a simulator.

    Of an episode that ends without a last record the rest comes when the environment's next one begins.
    """

    def __init__(self, take: Callable[[int, Sequence[Record]], None], size: int = PAGE) -> None:
        """`take` gets (number of the environment, up to `size` records in order), and may not keep the list."""
        self._take, self._size = take, size
        self._pages: defaultdict[int, list[Record]] = defaultdict(list)

    def __call__(self, number: int, record: Record) -> None:
        page = self._pages[number]
        if page and record["is_first"]:
            self._turn(number, page)
        page.append(record)
        if len(page) == self._size or record["is_last"]:
            self._turn(number, page)

    def _turn(self, number: int, page: list[Record]) -> None:
        self._take(number, page)
        page.clear()
