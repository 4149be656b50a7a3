"""Atari 2600 games: `atari/pong`, by the protocol of Atari 100k (Kaiser et al. 2019, arXiv 1903.00374).

Frames are skipped by four (env.action_repeat) and the picture is the maximum of the last two; up to 30 no-ops start an
episode; actions never stick; 108 000 frames truncate. Variants, as in `atari/pong@full+sticky`: `full` (18 actions),
`sticky` (the last action repeats with probability 0.25; Machado et al. 2018), `gray` (one channel). Needs `ale-py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.envs.pixels import resize
from actors.envs.registry import EnvConfig, limit_steps, unknown, variants
from replay.errors import BadInput, Missing

FRAME_RATE, MAX_FRAMES = 60.0, 108_000
NOOPS = 30  # at most, before an episode
STICKY = 0.25
TWO_PLAYERS = ("combat", "joust", "maze_craze", "warlords")  # have no game for one, and end the process when loaded
VARIANTS = ("full", "sticky", "gray")


def make(config: EnvConfig, seed: int) -> Atari:
    return Atari(config, seed)


def tasks() -> tuple[str, ...]:
    return tuple(name for name in _roms().get_all_rom_ids() if name not in TWO_PLAYERS)


class Atari(gymnasium.Env):
    """Observations: "image" (size, size, 3) uint8, area-averaged, with 1 channel in gray; "state" (128,) float32, the
    console's memory in [0, 1]. Rewards are the game's points. `info` has "lives" and "life_lost"; the end of the game
    terminates. An episode is fixed by the seed of its reset.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own attribute)
    render_mode = "rgb_array"

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.config = config
        if config.action_repeat < 1:
            raise BadInput(f"action_repeat is {config.action_repeat}.", "Set env.action_repeat to 1 or more.")
        self._game, self._chosen = variants(config.task.partition("/")[2], VARIANTS)
        self.task_text = f"play {self._game.replace('_', ' ')} for points"
        self.fps = FRAME_RATE / config.action_repeat
        self.max_steps = limit_steps(config, self.fps, MAX_FRAMES // config.action_repeat)
        self._ale = _console()
        self._path = _rom(self._game)
        self._load(seed if "sticky" in self._chosen else 0)
        self._rng = np.random.default_rng(seed)
        ale = self._ale
        self._actions = ale.getLegalActionSet() if "full" in self._chosen else ale.getMinimalActionSet()
        self.action_space = spaces.Discrete(len(self._actions))
        self.observation_space = self._space()
        self._frames = [np.zeros((*ale.getScreenDims(), 3), np.uint8) for _ in range(2)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self._rng = np.random.default_rng(seed)
            if "sticky" in self._chosen:
                self._load(seed)
        self._begin()
        for _ in range(int(self._rng.integers(1, NOOPS + 1))):
            self._ale.act(0)
            if self._ale.game_over():
                self._begin()
        self._look(1)
        self._frames[0][:] = self._frames[1]
        self._steps, self._lives = 0, self._ale.lives()
        return self._observe(), {"lives": self._lives, "life_lost": False}

    def step(self, action: int) -> tuple[dict, float, bool, bool, dict]:
        reward, repeat = 0.0, self.config.action_repeat
        for number in range(repeat):
            reward += self._ale.act(self._actions[int(action)])
            if number >= repeat - 2:
                self._look(number - repeat + 2)
        if repeat == 1:  # there is no frame before
            self._frames[0][:] = self._frames[1]
        self._steps += 1
        lives = self._ale.lives()
        info = {"lives": lives, "life_lost": lives < self._lives}
        self._lives = lives
        terminated = self._ale.game_over(with_truncation=False)
        truncated = self._steps >= self.max_steps and not terminated
        return self._observe(), reward, terminated, truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The screen as it is now (210, 160, 3) uint8; some consoles show 250 lines."""
        return self._ale.getScreenRGB()

    def _load(self, seed: int) -> None:
        """The console's own draws, for its memory at power-on and for sticking, are seeded when a game is loaded (0.1
        s); no-ops are variety enough where nothing sticks."""
        self._ale.setInt("random_seed", seed % 2**31)
        self._ale.setFloat("repeat_action_probability", STICKY if "sticky" in self._chosen else 0.0)
        self._ale.loadROM(self._path)
        self._ale.reset_game()
        self._fresh = self._ale.cloneState()  # without the state of those draws

    def _begin(self) -> None:
        """A new game. Neither of the two alone brings back everything in every game."""
        self._ale.reset_game()
        self._ale.restoreState(self._fresh)

    def _look(self, number: int) -> None:
        if self.config.pixels:
            self._ale.getScreenRGB(self._frames[number])

    def _space(self) -> spaces.Dict:
        config = self.config
        found: dict[str, spaces.Space] = {}
        if config.state:
            found["state"] = spaces.Box(0.0, 1.0, (self._ale.getRAMSize(),), np.float32)
        if config.pixels:
            channels = 1 if "gray" in self._chosen else 3
            found["image"] = spaces.Box(0, 255, (config.image_size, config.image_size, channels), np.uint8)
        return spaces.Dict(found)

    def _observe(self) -> dict[str, np.ndarray]:
        found = {}
        if self.config.state:
            found["state"] = self._ale.getRAM().astype(np.float32) / 255
        if self.config.pixels:
            found["image"] = self._image()
        return found

    def _image(self) -> np.ndarray:
        frame = resize(np.maximum(*self._frames), self.config.image_size)
        if "gray" in self._chosen:
            luma = frame @ np.array([0.299, 0.587, 0.114], np.float32)
            return np.rint(luma).astype(np.uint8)[..., None]
        return frame


@cache
def _roms() -> Any:
    try:
        import ale_py
        from ale_py import roms
    except ImportError as error:
        raise Missing(f"ale-py is not installed: {error}.", "Run `pip install ale-py==0.12.1`.") from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return roms


def _console() -> Any:
    _roms()
    from ale_py import ALEInterface

    ale = ALEInterface()
    ale.setInt("frame_skip", 1)
    ale.setInt("max_num_frames_per_episode", 0)  # counted here
    return ale


def _rom(game: str) -> str:
    known = tasks()
    if game not in known:
        raise unknown("atari game", game, known)
    return str(_roms().get_rom_path(game))
