"""MineRL 0.4.4 (Guss et al. 2019, arXiv 1907.13440) in its own interpreter: Python 3.8 with gym 0.19.

The package needs no game for its spaces. The game starts at the first reset, and what it lacks is Missing then.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.hosting import plain
from actors.hosting.guests import minerl_game as game
from actors.hosting.guests.errors import Missing
from actors.hosting.guests.minerl_progress import Progress, watched
from actors.hosting.guests.minerl_spaces import POV, State, action_space, to_hero
from actors.hosting.guests.pictures import shrink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FPS = 20.0
TICK_MS, SPARE_TICKS = 50, 200  # the game's own limit lies behind ours, which alone truncates


class MineRL:
    """One task. Observations: "image" (size, size, 3) uint8, upright; "state" (S,) float32, compass, equipment and
    inventory as `state_fields` has them, where the task observes any. Treechop has its picture alone, so it stays
    without `pixels`; the game draws it anyway.

    Actions: the task's own, a Dict of keys (Discrete(2)), "camera" (2,) in degrees, pitch first, and words as
    Discrete. With `keys`, those of VPT: "buttons", a bit for each key, and "camera", a row of `turns` (N, 2) degrees.

    Rewards are the game's. The game's end terminates (the goal, or death); `max_steps` truncate. `info["success"]`
    holds from the step on that reached the goal; `info["milestones"]` says which items were held so far.
    """

    fps = FPS
    preprocess = ("upright",)

    def __init__(
        self,
        task: str,
        task_text: str,
        max_steps: int,
        folder: str,
        keys: Sequence[str],
        turns: Any,
        size: int,
        render_size: int,
        pixels: bool,
        state: bool,
        seed: int,
    ) -> None:
        self.task_text, self.max_steps = task_text, max_steps
        self._task, self._size = task, size
        self._folder = Path(folder) if folder else package() / "Malmo" / "Minecraft"
        self._keys, self._turns = list(keys), np.asarray(turns)
        self._worlds = np.random.default_rng(seed)
        self._spec = make_spec(task, render_size, max_steps, keys)
        self._actions, self._state = self._spec.action_space, State(self._spec.observation_space)
        self.state_fields = self._state.fields if state else []
        self._pixels = pixels or not self.state_fields
        self.action_space = self._vpt_space() if self._keys else action_space(self._actions)
        self.observation_space = self._space()
        self._scratch: Any = None
        self._env: Any = None

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        if seed is not None:
            self._worlds = np.random.default_rng(seed)
        if self._env is None:
            self._env = self._start()
        self._env.seed(int(self._worlds.integers(2**31)), seed_spaces=False)  # of the world
        self._progress, self._step = Progress(self._task), 0
        return self._observe(self._env.reset()), self._told()

    def step(self, action: Mapping[str, Any]) -> tuple[dict, float, bool, bool, dict]:
        seen, reward, done, info = self._env.step(self._hero(action))
        if "error" in info:  # what was seen is noise then
            raise RuntimeError(f"the game is gone: {info['error']}")
        self._step += 1
        self._progress.see(info.get("inventory", {}), float(reward), bool(done))
        late = self._step >= self.max_steps
        return self._observe(seen), float(reward), bool(done), late and not done, self._told()

    def render(self) -> np.ndarray:
        """(render_size, render_size, 3) uint8, as last seen."""
        return self._frame

    def close(self) -> None:
        """Ends the game; the package's own way takes up to half a minute."""
        for instance in self._env.instances if self._env is not None else ():
            if instance.minecraft_process is not None:
                game.end(instance.minecraft_process)
        if self._scratch is not None:
            self._scratch.remove()

    def _start(self) -> Any:
        """The environment, which starts the game at its reset. Raises Missing."""
        lacks = list(game.lacking(self._folder))
        if lacks:
            raise Missing("; ".join(what for what, _ in lacks) + ".", " ".join(mend for _, mend in lacks))
        self._scratch = game.Scratch()
        game.settle(self._folder, self._scratch.path)
        env = self._spec.make()
        _remember(env)
        return env

    def _space(self) -> dict[str, Any]:
        found = {}
        if self.state_fields:
            found["state"] = self._state.space()
        if self._pixels:
            found["image"] = plain.box(0, 255, (self._size, self._size, 3), np.uint8)
        return plain.fields(**found)

    def _vpt_space(self) -> dict[str, Any]:
        buttons = {"kind": "multibinary", "shape": [len(self._keys)]}
        return plain.fields(buttons=buttons, camera={"kind": "discrete", "n": len(self._turns), "start": 0})

    def _hero(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        """Herobraine's action. VPT's keys that the game has no command for do nothing."""
        if not self._keys:
            return to_hero(self._actions, action)
        pressed = dict(zip(self._keys, map(int, action["buttons"])))  # noqa: B905 (Python 3.8)
        found: dict[str, Any] = {name: pressed[name] for name in self._actions.spaces if name != "camera"}
        return {**found, "camera": self._turns[int(action["camera"])].astype(np.float32)}

    def _observe(self, seen: Mapping[str, Any]) -> dict[str, Any]:
        self._frame = np.ascontiguousarray(seen[POV])
        found = {"state": self._state.read(seen)} if self.state_fields else {}
        if self._pixels:
            found["image"] = shrink(self._frame, self._size)
        return found

    def _told(self) -> dict[str, Any]:
        return {"success": self._progress.success, "milestones": dict(self._progress.milestones)}


def package() -> Path:
    """The folder of the package. Raises Missing."""
    found = importlib.util.find_spec("minerl")
    if found is None or not found.submodule_search_locations:
        raise Missing("There is no MineRL in this interpreter.", "Run: python -m distwm.envs install minerl")
    return Path(next(iter(found.submodule_search_locations)))


def _remember(env: Any) -> None:
    """An episode's last step may tell nothing but its picture, which the package cannot bear: what was told before
    counts then."""
    process, last = env._process_observation, ["{}"]

    def remembered(agent: str, frame: bytes, told: Any) -> Any:
        if told and told != "{}":
            last[0] = told
        return process(agent, frame, last[0])

    env._process_observation = remembered


def make_spec(task: str, size: int, max_steps: int, keys: Sequence[str]) -> Any:
    """The task as herobraine has it, with pictures of `size` pixels a side, our limit, and an inventory for ourselves:
    the task's own lacks diamonds. With `keys`, the actions are those keys and the camera."""
    logging.getLogger("minerl").setLevel(logging.ERROR)
    from minerl.herobraine.env_specs import navigate_specs, obtain_specs, treechop_specs
    from minerl.herobraine.hero import handlers

    base, arguments = {
        "Treechop": (treechop_specs.Treechop, {}),
        "Navigate": (navigate_specs.Navigate, {"dense": "Dense" in task, "extreme": "Extreme" in task}),
        "ObtainDiamond": (obtain_specs.ObtainDiamond, {"dense": "Dense" in task}),
        "ObtainIronPickaxe": (obtain_specs.ObtainIronPickaxe, {"dense": "Dense" in task}),
    }[task.replace("Dense", "").replace("Extreme", "")]

    class Watched(handlers.FlatInventoryObservation):
        """Told after each step, beside the observation."""

        def xml_template(self) -> str:  # a mission may ask for the inventory only once
            return "" if task.startswith("Obtain") else super().xml_template()

    class Spec(base):  # type: ignore[misc, valid-type]
        def create_monitors(self) -> list[Any]:
            return [Watched(list(watched(task)))] if watched(task) else []

        def create_server_quit_producers(self) -> list[Any]:
            limit = handlers.ServerQuitFromTimeUp((max_steps + SPARE_TICKS) * TICK_MS)
            return [limit, handlers.ServerQuitWhenAnyAgentFinishes()]

        def create_actionables(self) -> list[Any]:
            if not keys:
                return super().create_actionables()
            named = [handlers.KeybasedCommandAction(key, key) for key in keys if key not in NO_COMMAND]
            return [*named, handlers.CameraAction()]

    return Spec(resolution=(size, size), **arguments)


# The game takes no escape; it opens its inventory, but nothing there can move a cursor or close the window again.
NO_COMMAND = ("ESC", "inventory")
