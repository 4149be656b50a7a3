"""Pictures of a robosuite simulator, as fast as software renders them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from actors.hosting.guests.errors import Missing


class Renderer:
    """One GL context for a simulator and all its cameras. Without shadows, multisampling and reflections: 5 to 10 times
    faster on a CPU, and not quite the published look."""

    def __init__(self, sim: Any, size: int) -> None:
        """Frames are `size` pixels a side. Raises Missing without a GL library."""
        import mujoco

        self._sim, self._size = sim, size
        visual = sim.model._model.vis
        visual.quality.shadowsize = visual.quality.offsamples = 0  # only read when a context is made
        before = sim.data._data.qacc_warmstart.copy()
        try:
            from robosuite.utils.binding_utils import MjRenderContextOffscreen

            self._context = MjRenderContextOffscreen(sim, -1, size, size)
        except (ImportError, AttributeError, RuntimeError, OSError, mujoco.FatalError) as error:
            raise Missing(
                f"Cannot render with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}: {type(error).__name__}: {error}.",
                "Run `apt-get install --no-install-recommends libosmesa6` (or set MUJOCO_GL=egl where EGL works).",
            ) from error
        sim.data._data.qacc_warmstart[:] = before  # looking changes no motion, to the last bit
        self._context.vopt.geomgroup[0] = 0  # collision shapes
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._context.scn.flags[flag] = 0

    def frame(self, camera: str) -> np.ndarray:
        """(size, size, 3) uint8, its first row at the bottom."""
        self._context.render(self._size, self._size, self._sim.model.camera_name2id(camera))
        return self._context.read_pixels(self._size, self._size)
