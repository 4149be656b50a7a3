"""Pictures made smaller and drawn: what several suites share."""

from __future__ import annotations

import numpy as np
from einops import reduce
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]


def shrink(frame: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) -> box average (size, size, 3) uint8; `size` divides H and W."""
    mean = reduce(frame.astype(np.float32), "(h a) (w b) c -> h w c", "mean", h=size, w=size)
    return np.rint(mean).astype(np.uint8)


def resize(frame: np.ndarray, size: int) -> np.ndarray:
    """(H, W[, 3]) uint8 -> area average (size, size[, 3]) uint8, whatever H and W are."""
    if frame.shape[:2] == (size, size):
        return frame
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BOX))


class Canvas:
    """A square picture of a rectangle of the plane: x from `left` to `right`, y from `bottom` up to `top`."""

    def __init__(self, size: int, left: float, right: float, bottom: float, top: float, colour: Colour) -> None:
        self._image = Image.new("RGB", (size, size), colour)
        self._draw = ImageDraw.Draw(self._image)
        self._left, self._top = left, top
        self._scale = size / (right - left), size / (top - bottom)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """From the lower left corner (x, y); at least a pixel wide and high."""
        self._draw.rectangle((*self._pixel(x, y + height), *self._pixel(x + width, y)), fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Around (x, y), round in the plane."""
        box = (*self._pixel(x - radius, y + radius), *self._pixel(x + radius, y - radius))
        self._draw.ellipse(box, fill=colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self._draw.line((*self._pixel(x0, y0), *self._pixel(x1, y1)), fill=colour)

    def array(self) -> np.ndarray:
        """(size, size, 3) uint8."""
        return np.array(self._image)

    def _pixel(self, x: float, y: float) -> tuple[float, float]:
        return (x - self._left) * self._scale[0], (self._top - y) * self._scale[1]
