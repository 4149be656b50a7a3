"""What a person may choose about recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Each reader takes what concerns it; none of it changes silently what is in a data set, see `origin`."""

    image_size: int | None = None  # height and width in pixels; None: 64 of videos, as stored of HDF5
    action_dim: int = 0  # of unlabelled video: the width of the zeros that stand for its actions
    drop_null: bool = False  # of VPT: leave out the steps in which nothing was pressed or moved
    segment_steps: int | None = None  # decisions of the episodes that long recordings are cut into

    def __post_init__(self) -> None:
        if self.image_size is not None and not 4 <= self.image_size <= 1024:
            raise BadInput(f"The image size is {self.image_size}.", "Give 4 to 1024 pixels.")
        if not 0 <= self.action_dim <= 4096:
            raise BadInput(f"The action width is {self.action_dim}.", "Give 0 to 4096.")
        if self.segment_steps is not None and self.segment_steps < 1:
            raise BadInput(f"Segments would have {self.segment_steps} steps.", "Give 1 or more.")


def no_other_names(rename: Mapping[str, str]) -> None:
    """Raises BadInput if there are any, for formats whose fields have fixed names."""
    if rename:
        raise BadInput(f"{next(iter(rename))!r} cannot have another name.", "Leave --rename out for this format.")
