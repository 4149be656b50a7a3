"""The ledger against the replay, before a collection goes on: what is whole there is not played again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from distwm.collect.book import Book, Played
from distwm.collect.plan import Order, number_of
from replay.config import ReplayConfig
from replay.shards.address import addresses
from replay.shards.stock import Inventory, Whole, look_up, take_stock
from replay.shards.survey import Surveyor

_log = logging.getLogger(__name__)


class Shelf:
    """The replay of a collection, as the driver reads it."""

    def __init__(self, config: ReplayConfig, name: str, success_terminates: Mapping[str, bool]) -> None:
        """`config.url` is set by now. Of each order, by its key: whether its episodes terminate in success alone."""
        self._config, self._name, self._success_terminates = config, name, success_terminates

    def reconcile(self, book: Book, order: Order) -> str:
        """Makes the ledger say what the replay holds; returns what there is to tell a person, or nothing.

        An episode that is not there counts as played where the replay has dropped chunks to make room: to play it again
        would drop another. Otherwise the replay has lost it, and it is taken out of the ledger.
        """
        played = book.played[order.key]
        known = {order.stream(number): episode.steps for number, episode in played.items()}
        with self._shards(order) as shards:
            stock = take_stock(shards, known, only=_Streams(order))
        found = [self._played(order, stream, whole, book.seconds) for stream, whole in stock.whole.items()]
        new = [episode for episode in found if episode.number not in played]
        book.add(order, new)
        lost = sorted(number for number in played if order.stream(number) not in _there(stock))
        if lost and not stock.evicted:
            book.forget(order, lost)
        if stock.doubled:
            _log.warning("%s has episodes twice: %s", order.key, ", ".join(stock.doubled))
        return _said(order, len(new), 0 if stock.evicted else len(lost))

    def whole(self, order: Order, numbers: Sequence[int], at_s: float) -> Mapping[int, Played]:
        """Those of the episodes that are there from their first step to their last."""
        with self._shards(order) as shards:
            found = look_up(shards, [order.stream(number) for number in numbers])
        played = (self._played(order, stream, whole, at_s) for stream, whole in found.items())
        return {episode.number: episode for episode in played}

    def counters(self, order: Order) -> dict[str, int]:
        """chunks, steps, episodes, ...: of the order's run, on all shards."""
        with self._shards(order) as shards:
            looks = [shard.see().counters for shard in shards]
        return {name: sum(look.get(name, 0) for look in looks) for name in sorted({n for look in looks for n in look})}

    def _played(self, order: Order, stream: str, whole: Whole, at_s: float) -> Played:
        number = number_of(order, stream)
        assert number is not None
        success = whole.terminated if self._success_terminates.get(order.key) else None
        return Played(number=number, steps=whole.steps, total_reward=whole.total_reward, success=success, at_s=at_s)

    @contextmanager
    def _shards(self, order: Order) -> Iterator[list[Surveyor]]:
        timeout_s, outage_s = self._config.connect_timeout_s, self._config.outage_s
        run = order.run(self._name)
        shards = [Surveyor(url, run, timeout_s, outage_s) for url in addresses(self._config.url)]
        try:
            yield shards
        finally:
            for shard in shards:
                shard.close()


class _Streams:
    """All streams of an order, those not yet played included."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def __contains__(self, stream: object) -> bool:
        return isinstance(stream, str) and number_of(self._order, stream) is not None


def _there(stock: Inventory) -> set[str]:
    return stock.kept | set(stock.whole)


def _said(order: Order, found: int, lost: int) -> str:
    words = [f"{found} episodes are in the replay that the ledger had not noted"] if found else []
    words += [f"{lost} episodes are gone from the replay and will be played again"] if lost else []
    return f"{order.key}: {'; '.join(words)}." if words else ""
