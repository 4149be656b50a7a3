"""DeepMind Control Suite as gymnasium environments: `dmc/<domain>_<task>` (Tassa et al. 2018, arXiv 1801.00690)."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.pixels import shrink
from actors.envs.registry import EnvConfig, unknown
from replay.errors import BadInput, Missing

os.environ.setdefault("MUJOCO_GL", "osmesa")  # dm_control reads it once, when it is imported

STEP_LIMIT = 1000  # control steps, as every other task of the suite has
UNBOUNDED = 1e6  # a range above this is MuJoCo's way to say that there is none
INSTALL_GL = "Run `apt-get install --no-install-recommends libosmesa6` (or set MUJOCO_GL=egl where EGL works)."


def make(config: EnvConfig, seed: int) -> DMC:
    return DMC(config, seed)


def tasks() -> dict[str, tuple[str, str]]:
    """`<domain>_<task>` -> (domain, task), for every task of the suite."""
    return {f"{domain}_{task}": (domain, task) for domain, task in _suite().ALL_TASKS}


class DMC(gymnasium.Env):
    """One task of the suite.

    Observations: "image" (size, size, 3) uint8, box-averaged from `render_size` against aliasing; "state" (S,) float32,
    the task's own features in order; "qpos" (Q,) float32, joint positions with (cos, sin) for unlimited hinges, so that
    a linear probe can fit them. Actions in [-1, 1] are rescaled to the task's bounds and held for `action_repeat`
    simulator steps, whose rewards are summed. The time limit truncates; hardly any task terminates.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own attribute)
    render_mode = "rgb_array"

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.config = config
        _check(config)
        self._env = _load(config, seed)
        self._low, self._high = _bounds(self._env)
        repeat = config.action_repeat
        self.task_text = config.task.partition("/")[2].replace("_", " ")
        self.fps = 1.0 / (self._env.control_timestep() * repeat)
        self.max_steps = math.ceil(self._env._step_limit / repeat - 1e-6)  # the limit is a quotient of times
        self.action_space = spaces.Box(-1.0, 1.0, self._low.shape, np.float32)
        self.observation_space = self._space()
        self._frame: np.ndarray | None = None
        self._camera: Any = None  # kept, since making one takes as long as a picture

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed % 2**32)
        step = self._env.reset()
        return self._observe(step), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        control = self._low + (np.clip(action, -1.0, 1.0) + 1.0) * 0.5 * (self._high - self._low)
        reward = 0.0
        for _ in range(self.config.action_repeat):
            step = self._env.step(control)
            reward += step.reward
            if step.last():
                break
        terminated = step.last() and step.discount == 0.0
        return self._observe(step), reward, terminated, step.last() and not terminated, {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The present frame (render_size, render_size, 3) uint8. Raises Missing without a GL library."""
        if self._frame is None:
            self._camera = self._camera or _camera(self._env.physics, self.config)
            self._frame = self._camera.render()
        return self._frame

    def close(self) -> None:
        self._camera = None
        self._env.physics.free()  # or the GL context outlives it, up to a noisy end of the process

    def _space(self) -> spaces.Dict:
        config = self.config
        found: dict[str, spaces.Space] = {}
        if config.pixels:
            found["image"] = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
        if config.state:
            specs = self._env.observation_spec().values()
            width = sum(int(np.prod(spec.shape)) for spec in specs)
            found["state"] = spaces.Box(-np.inf, np.inf, (width,), np.float32)
            found["qpos"] = spaces.Box(-np.inf, np.inf, _positions(self._env.physics).shape, np.float32)
        return spaces.Dict(found)

    def _observe(self, step: Any) -> dict[str, np.ndarray]:
        self._frame = None
        found = {}
        if self.config.pixels:
            found["image"] = shrink(self.render(), self.config.image_size)
        if self.config.state:
            found["state"] = np.concatenate([np.ravel(v) for v in step.observation.values()], dtype=np.float32)
            found["qpos"] = _positions(self._env.physics)
        return found


def _check(config: EnvConfig) -> None:
    if config.pixels and config.render_size % config.image_size:
        raise BadInput(
            f"render_size {config.render_size} is no multiple of image_size {config.image_size}.",
            f"Set env.render_size to {config.image_size * max(1, round(config.render_size / config.image_size))}.",
        )
    if config.action_repeat < 1:
        raise BadInput(f"action_repeat is {config.action_repeat}.", "Set env.action_repeat to 1 or more.")


def _suite() -> Any:
    try:  # dm_control loads its GL library at import, and fails in as many ways as there are libraries
        from dm_control import suite
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise _missing_gl(error) from error
    logging.getLogger("absl").setLevel(logging.ERROR)  # the dogs' model uses an attribute that MuJoCo advises against
    return suite


def _load(config: EnvConfig, seed: int) -> Any:
    known, name = tasks(), config.task.partition("/")[2]
    if name not in known:
        raise unknown("dmc task", name, known)
    limit = {"time_limit": config.time_limit_s} if config.time_limit_s else {}
    domain, task = known[name]
    env = _suite().load(domain, task, task_kwargs={"random": 0, **limit})  # lqr draws its very springs from this
    env.task.random.seed(seed % 2**32)
    if math.isinf(env._step_limit):  # lqr alone would never end
        env._step_limit = STEP_LIMIT
    quality = env.physics.model.vis.quality
    quality.shadowsize = quality.offsamples = (
        0  # software rendering is 5-11 times faster; only read before the first frame
    )
    if config.fovy:
        env.physics.model.cam_fovy[config.camera] = config.fovy
    return env


def _camera(physics: Any, config: EnvConfig) -> Any:
    """Starts the renderer. Raises Missing without a GL library."""
    import mujoco
    from dm_control.mujoco import Camera

    size = config.render_size
    try:
        return Camera(physics, height=size, width=size, camera_id=config.camera)
    except (mujoco.FatalError, RuntimeError, OSError, AttributeError, ImportError) as error:
        raise _missing_gl(error) from error


def _bounds(env: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of the actuators; one without bounds (lqr) gets [-1, 1]."""
    spec = env.action_spec()
    free = spec.maximum - spec.minimum > UNBOUNDED
    low, high = np.where(free, -1.0, spec.minimum), np.where(free, 1.0, spec.maximum)
    return low.astype(np.float64), high.astype(np.float64)


def _positions(physics: Any) -> np.ndarray:
    """Joint positions, unlimited hinges as (cos, sin): an angle that wraps is no linear function of any picture."""
    model, qpos = physics.model, physics.data.qpos
    hinge = np.zeros(model.nq, bool)
    free_turn = (model.jnt_type == 3) & (model.jnt_limited == 0)  # mjJNT_HINGE
    hinge[model.jnt_qposadr[free_turn]] = True
    return np.concatenate([qpos[~hinge], np.cos(qpos[hinge]), np.sin(qpos[hinge])], dtype=np.float32)


def _missing_gl(error: Exception) -> Missing:
    backend = os.environ.get("MUJOCO_GL", "")
    return Missing(f"Cannot render with MUJOCO_GL={backend}: {type(error).__name__}: {error}.", INSTALL_GL)
