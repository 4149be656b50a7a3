"""robosuite 1.5 (Zhu et al. 2020, arXiv 2009.12293) in its own interpreter, which needs numpy 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from actors.hosting import plain
from actors.hosting.guests.arm import FPS, ArmView, quiet

TASK_TEXTS = {
    "Lift": "lift the red cube",
    "Stack": "put the red cube on the green cube",
    "PickPlace": "put every object into its bin",
    "Door": "open the door",
}


class Robosuite:
    """One task of a Panda arm with the BASIC controller (operational space). Observations as
    actors/hosting/guests/arm.py makes them, "state" with all that the task observes of its objects; pictures upright.

    Actions (7,) in [-1, 1]: motion of the end effector (5 cm and 0.5 rad at full scale), then the gripper (1 closes).
    Rewards lie in [0, 1], shaped unless `sparse`. Nothing ends an episode but its length; success is in the info.
    """

    fps = FPS
    preprocess = ("upright",)

    def __init__(self, task: str, max_steps: int, sparse: bool, seed: int, **view: Any) -> None:
        quiet()
        import robosuite

        self.task_text, self.max_steps = TASK_TEXTS[task], max_steps
        self._env = robosuite.make(
            task,
            robots="Panda",
            controller_configs=robosuite.load_composite_controller_config(controller="BASIC"),
            control_freq=FPS,
            reward_shaping=not sparse,
            has_renderer=False,
            has_offscreen_renderer=False,  # ArmView renders, and only what is asked for
            use_camera_obs=False,
            ignore_done=True,
            hard_reset=False,  # the model is the same in every episode
            seed=0,
        )
        seen = self._env.reset()
        self._seed(seed)
        self._objects = [name for name in self._of_objects() if name in seen]
        sizes = [(name, int(np.size(seen[name]))) for name in self._objects]
        self._view = ArmView(self._env.sim, sizes, lambda frame: frame[::-1], **view)
        self.state_fields = self._view.fields
        self.action_space = plain.box(-1.0, 1.0, (7,), np.float32)
        self.observation_space = self._view.space()

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        if seed is not None:
            self._seed(seed)
        self._step = 0
        return self._observe(self._env.reset()), {"success": False}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        seen, reward, _, _ = self._env.step(np.clip(action, -1.0, 1.0))
        self._step += 1
        success = bool(self._env._check_success())
        return self._observe(seen), float(reward), False, self._step >= self.max_steps, {"success": success}

    def render(self) -> np.ndarray:
        return self._view.frame("agentview")

    def close(self) -> None:
        del self._view  # the GL context, before the simulator
        self._env.close()

    def _seed(self, seed: int) -> None:
        """In place, since every sampler shares the generator."""
        self._env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def _of_objects(self) -> list[str]:
        return [name for name, observable in self._env._observables.items() if observable.modality == "object"]

    def _observe(self, seen: dict[str, Any]) -> dict[str, Any]:
        return self._view.observe(seen, [seen[name] for name in self._objects])
