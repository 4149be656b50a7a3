"""Pictures as openpi's policies want them (openpi_client.image_tools, which follows tf.image.resize_with_pad)."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resize_with_pad(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (height, width, 3) uint8: as large as fits without distortion, bilinear, black around it."""
    if picture.shape[:2] == (height, width):
        return picture
    rows, columns = picture.shape[:2]
    ratio = max(columns / width, rows / height)
    size = max(1, int(columns / ratio)), max(1, int(rows / ratio))
    resized = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    padded = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    padded[top : top + size[1], left : left + size[0]] = np.asarray(resized)
    return padded
