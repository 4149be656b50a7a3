"""What a contractor of VPT pressed in one tick, out of a line of JSON, as one action (Baker et al. 2022).

Quirks of the recordings that are mended here: an attack that counts as held from the first tick until the button is
really pressed; turns of the scroll wheel, which were not recorded but show in the selected slot; escape, which closes
a window as `inventory` does; mouse motion in windows, which some versions of the recorder halved or doubled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from actors.data.camera import BINS, joint, to_bins

BUTTONS = (
    *("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint", "use", "drop", "inventory"),
    *(f"hotbar.{slot}" for slot in range(1, 10)),
    *("ESC", "pickItem", "swapHands"),
)
# An action is this space flattened: 23 keys, then one of 121 camera motions.
SPACE = spaces.Dict({"buttons": spaces.MultiBinary(len(BUTTONS)), "camera": spaces.Discrete(BINS * BINS)})
DIM = spaces.flatdim(SPACE)

DEGREES_PER_PIXEL = 360.0 / 2400.0
WINDOW_SCALE = {"5.7": 0.5, "5.8": 0.5, "6.7": 2.0, "6.8": 2.0, "6.9": 2.0}  # by version of the recorder

_PLACE = {name: place for place, name in enumerate(BUTTONS)}
_KEYS = {
    **{f"key.keyboard.{slot}": f"hotbar.{slot}" for slot in range(1, 10)},
    **{"key.keyboard.w": "forward", "key.keyboard.s": "back", "key.keyboard.a": "left", "key.keyboard.d": "right"},
    **{"key.keyboard.space": "jump", "key.keyboard.left.shift": "sneak", "key.keyboard.left.control": "sprint"},
    **{"key.keyboard.q": "drop", "key.keyboard.e": "inventory", "key.keyboard.f": "swapHands"},
    "key.keyboard.escape": "ESC",
}
_MOUSE = {0: "attack", 1: "use", 2: "pickItem"}


@dataclass(frozen=True, slots=True)
class Tick:
    """`cursor` is where the mouse points while a window is open, in pixels of 1280 x 720; it is not in the video."""

    action: np.ndarray  # (DIM,) float32
    null: bool  # nothing pressed, nothing moved
    cursor: tuple[float, float] | None
    number: int | None = None  # the recorder's own count


class TickReader:
    """Reads the ticks of one recording in their order."""

    def __init__(self, version: str = "") -> None:
        self._window_scale = WINDOW_SCALE.get(version, 1.0)
        self._stuck: bool | None = None  # not known before the first tick
        self._slot = 0

    def read(self, line: bytes) -> Tick:
        """Raises ValueError, LookupError or TypeError for a line that is no tick."""
        tree = _parsed(line)
        mouse, window = tree["mouse"], bool(tree["isGuiOpen"])
        pressed = {_KEYS[key] for key in tree["keyboard"]["keys"] if key in _KEYS}
        pressed |= {_MOUSE[button] for button in self._buttons(mouse) if button in _MOUSE}
        slot = int(tree.get("hotbar", self._slot))
        if slot != self._slot and 0 <= slot < 9:
            pressed.add(f"hotbar.{slot + 1}")
        self._slot = slot
        if window and "ESC" in pressed:
            pressed = pressed - {"ESC"} | {"inventory"}
        scale = DEGREES_PER_PIXEL * (self._window_scale if window else 1.0)
        turned = [_degrees(mouse[axis], scale) for axis in ("dy", "dx")]
        action = _action(pressed, turned)
        cursor = (float(mouse["x"]), float(mouse["y"])) if window else None
        number = tree.get("tick")
        return Tick(action, not pressed and not any(turned), cursor, number if isinstance(number, int) else None)

    def _buttons(self, mouse: Mapping[str, Any]) -> list[int]:
        """The mouse buttons that are held."""
        new = mouse["newButtons"]
        if self._stuck is None:
            self._stuck = list(new) == [0]
        elif 0 in new:
            self._stuck = False
        return [button for button in mouse["buttons"] if button != 0 or not self._stuck]


def _parsed(line: bytes) -> dict[str, Any]:
    # Not the standard library's NaN: no recorder wrote one.
    def refuse(word: str) -> float:
        raise ValueError(f"{word} is no number")

    tree = json.loads(line, parse_constant=refuse)
    if not isinstance(tree, dict):
        raise ValueError("it is no object")
    return tree


def _degrees(pixels: float, scale: float) -> float:
    """Of a motion; jumps of more than half a turn are the cursor's, not the player's."""
    turned = float(pixels) * scale
    if not math.isfinite(turned):
        raise ValueError("a motion is not finite")
    return turned if abs(turned) <= 180.0 else 0.0


def _action(pressed: set[str], turned: list[float]) -> np.ndarray:
    action = np.zeros(DIM, np.float32)
    for name in pressed:
        action[_PLACE[name]] = 1.0
    pitch, yaw = to_bins(np.array(turned))
    action[len(BUTTONS) + joint(pitch, yaw)] = 1.0
    return action
