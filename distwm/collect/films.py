"""Films of a collection: a few episodes that succeeded and a few that did not, from what the replay holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distwm.collect.book import Book
from distwm.collect.plan import CollectConfig, Order, number_of, plain
from distwm.videos import side_by_side, write_video
from replay.schema import EpisodeSpec, FieldSpec
from replay.sources.redis_source import RedisSource


def film(config: CollectConfig, orders: Sequence[Order], book: Book, folder: Path) -> list[Path]:
    """`<task>-<policy>-success.mp4` and `-failure.mp4`, of up to `config.videos` episodes each, side by side; an order
    whose steps hold no pictures has none. Returns what was written."""
    return [path for order in orders for path in _films(config, order, book, folder)]


def _films(config: CollectConfig, order: Order, book: Book, folder: Path) -> list[Path]:
    row = book.manifest["orders"][order.key]
    spec = EpisodeSpec(fields=tuple(FieldSpec(**{**f, "shape": tuple(f["shape"])}) for f in row["spec"]))
    camera = next((f.name for f in spec.observations if f.dtype == "uint8" and len(f.shape) == 3), None)
    played = sorted(book.played[order.key].values(), key=lambda one: one.number)
    if camera is None or all(one.success is None for one in played):
        return []
    source, written = RedisSource(config.replay, order.run(book.name), spec), []
    try:
        source.refresh()
        for name, wanted in (("success", True), ("failure", False)):
            numbers = [one.number for one in played if one.success is wanted][: config.videos]
            if frames := _frames(source, order, numbers, camera):
                path = folder / f"{plain(order.task)}-{plain(order.policy)}-{name}.mp4"
                written.append(write_video(path, side_by_side(frames), row["fps"]))
    finally:
        source.close()
    return written


def _frames(source: RedisSource, order: Order, numbers: Sequence[int], camera: str) -> list[np.ndarray]:
    """(T, H, W, 3) of each episode that is there to its end."""
    keys = [*source.episodes("train"), *source.episodes("valid")]
    mine = {number: key for key in keys if (number := number_of(order, key.stream)) in numbers}
    found = [source.episode(mine[number]).arrays for number in numbers if number in mine]
    return [arrays[camera] for arrays in found if arrays["is_last"][-1]]
