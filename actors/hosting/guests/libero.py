"""LIBERO (Liu et al. 2023, arXiv 2306.03310) in its own interpreter, which needs hf-libero and no torch.

The package asks a question on standard input, loads pickles with torch and looks for its assets on a hub; none of that
happens here: its configuration is written first, initial states are read as the arrays that they are, and the assets
lie where the configuration says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickletools
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from actors.hosting import plain
from actors.hosting.guests.arm import FPS, ArmView, quiet
from actors.hosting.guests.errors import BadInput, Missing

INSTALL = "Run: python -m distwm.envs install libero"
SETTLE = 10  # steps without motion after each reset, until nothing falls any more
NO_MOTION = np.array([0, 0, 0, 0, 0, 0, -1.0])  # the gripper stays open


class Libero:
    """One task. Observations as actors/hosting/guests/arm.py makes them; "state" has first what the goal names, then
    the other objects, each a position (m) and a quaternion (x, y, z, w). Pictures are turned by 180 degrees, as the
    published policies expect them.

    Actions (7,) in [-1, 1]: motion of the end effector (5 cm and 0.5 rad at full scale), then the gripper (1 closes).
    The reward is 1 at the step that succeeds, which ends the episode.
    """

    fps = FPS
    preprocess = ("rotate180",)
    success_terminates = True

    def __init__(self, suite: str, number: int, assets: str, max_steps: int, seed: int, **view: Any) -> None:
        task_name = _task_name(suite, number)
        root = _configure(assets)
        self.task_text, self.max_steps = _language(task_name), max_steps
        self._env = _make(root / "bddl_files" / suite / f"{task_name}.bddl", assets)
        width = len(self._env.get_sim_state())
        self._inits = init_states(root / "init_files" / suite / f"{task_name}.pruned_init", width)
        self.init_states = len(self._inits)
        self._seed(seed)
        self._named = _named(self._env.env)
        objects = [(name + part, size) for name in self._named for part, size in (("_pos", 3), ("_quat", 4))]
        self._view = ArmView(self._env.sim, objects, lambda frame: frame[::-1, ::-1], **view)
        self.state_fields = self._view.fields
        self.action_space = plain.box(-1.0, 1.0, (7,), np.float32)
        self.observation_space = self._view.space()

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        """`options={"init_state": n}` begins with the n-th of the task's initial states; else the seed draws one."""
        if seed is not None:
            self._seed(seed)
        number = (options or {}).get("init_state", int(self._choice.integers(len(self._inits))))
        if not 0 <= number < len(self._inits):
            raise BadInput(
                f"{self.task_text!r} has no initial state {number}.", f"Choose one of 0 to {len(self._inits) - 1}."
            )
        self._env.reset()
        for robot in self._env.robots:  # the one thing that a reset without a new model forgets
            robot.gripper.current_action = np.zeros_like(robot.gripper.current_action)
        self._env.set_init_state(self._inits[number])
        for _ in range(SETTLE):
            seen = self._env.step(NO_MOTION)[0]
        self._step = 0
        return self._observe(seen), {"init_state": number, "success": False}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        seen, reward, success, _ = self._env.step(np.clip(action, -1.0, 1.0))
        self._step += 1
        late = self._step >= self.max_steps
        return self._observe(seen), float(reward), success, late and not success, {"success": success}

    def render(self) -> np.ndarray:
        return self._view.frame("agentview")

    def close(self) -> None:
        del self._view  # the GL context, before the simulator
        self._env.close()

    def _seed(self, seed: int) -> None:
        np.random.seed(seed % 2**32)  # LIBERO places its fixtures with it
        self._choice = np.random.default_rng(seed)

    def _observe(self, seen: dict[str, Any]) -> dict[str, Any]:
        return self._view.observe(seen, [part for name in self._named for part in _pose(self._env.env, name)])


def init_states(path: Path, width: int) -> np.ndarray:
    """(n, width) float64. The file is a zip with a pickle of one array; its bytes are taken out, nothing is executed.
    Raises Missing for a file that is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
            words = [word for _, word, _ in pickletools.genops(archive.read(name)) if isinstance(word, str)]
        return np.frombuffer(max(words, key=len).encode("latin-1"), "<f8").reshape(-1, width)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Missing(f"{path} holds no initial states: {error}.", INSTALL) from error


def _package() -> Path:
    """The folder of the package libero.libero, which is not imported before it is configured."""
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise Missing("There is no LIBERO in this interpreter.", INSTALL)
    return Path(next(iter(spec.submodule_search_locations))) / "libero"


def _task_name(suite: str, number: int) -> str:
    """From the package's own table, which lies beside code that imports torch."""
    path = _package() / "benchmark" / "libero_suite_task_map.py"
    spec = importlib.util.spec_from_file_location("libero_suite_task_map", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.libero_task_map[suite][number]


def _language(task_name: str) -> str:
    """The instruction, as the package derives it from the name."""
    words = task_name.split("_")
    scenes = [place for place, word in enumerate(words) if word.startswith("SCENE")]
    return " ".join(words[scenes[0] + 1 :] if scenes else words)


def _configure(assets: str) -> Path:
    """Says where things are, before anything of LIBERO is imported; the package's folder."""
    if not (Path(assets) / "scenes").is_dir():
        raise Missing(
            f"LIBERO's assets are not in {assets or 'any folder that was named'}.",
            "Set env.assets or DISTWM_LIBERO_ASSETS to the folder that holds scenes/ and textures/.",
        )
    root = _package()
    folder = Path(sys.prefix) / "libero-config"
    if not os.access(sys.prefix, os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix="libero-config-"))
    folder.mkdir(exist_ok=True)
    paths = {
        "benchmark_root": str(root),
        "bddl_files": str(root / "bddl_files"),
        "init_states": str(root / "init_files"),
        "datasets": str(root.parent / "datasets"),
        "assets": str(Path(assets).absolute()),
    }
    temporary = folder / f"config.{os.getpid()}"
    temporary.write_text(json.dumps(paths))  # JSON is YAML
    temporary.replace(folder / "config.yaml")
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
    return root


def _make(bddl: Path, assets: str) -> Any:
    """The simulator, without a renderer."""
    quiet()
    from robosuite import macros

    macros.FILE_LOGGING_LEVEL = None  # it would write into /tmp
    import libero.libero

    libero.libero._assets_path_cache = str(Path(assets).absolute())  # `assets` of its configuration is not read
    from libero.libero.envs.env_wrapper import ControlEnv

    try:
        return ControlEnv(
            bddl_file_name=str(bddl),
            has_offscreen_renderer=False,
            use_camera_obs=False,
            hard_reset=False,  # the model is the same in every episode
            ignore_done=True,
        )
    except FileNotFoundError as error:
        raise Missing(
            f"LIBERO's assets lack a file of this task: {error.filename or error}.",
            "Complete them, or choose another task.",
        ) from error


def _named(env: Any) -> list[str]:
    """What has a pose and is part of the task: first what the goal names, in its order, then every other object."""
    goal = [name for predicate in env.parsed_problem["goal_state"] for name in predicate[1:]]
    known = [name for name in goal if name in env.object_states_dict]
    return list(dict.fromkeys([*known, *sorted(env.objects_dict)]))


def _pose(env: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Position (m) and quaternion (x, y, z, w) of an object, a fixture or a site of one."""
    data = env.sim.data
    if name in env.obj_body_id:
        body = env.obj_body_id[name]
        return data.body_xpos[body], data.body_xquat[body][[1, 2, 3, 0]]
    return data.get_site_xpos(name), np.array([0.0, 0.0, 0.0, 1.0])
