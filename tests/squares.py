"""A world small enough to overfit: actions move a square over a dark field, the reward says how far right it is."""

from __future__ import annotations

import numpy as np

from learners.dreamer4.dynamics import DynamicsNetConfig
from learners.dreamer4.open_loop import OpenLoopConfig
from learners.dreamer4.system import Dreamer4Config
from learners.dreamer4.tokenizer import TokenizerNetConfig
from learners.dreamer4.train_agent import AgentConfig
from learners.dreamer4.train_dynamics import DynamicsConfig
from learners.dreamer4.train_imagination import ImaginationConfig
from learners.dreamer4.train_tokenizer import TokenizerConfig
from learners.nn.transformer import TransformerConfig
from learners.system import OptimConfig
from replay.schema import Episode, EpisodeKey, EpisodeSpec
from replay.sources.memory import MemorySource

PIXELS, SIDE = 16, 6
SPEC = EpisodeSpec.build({"image": ((PIXELS, PIXELS, 3), "uint8"), "qpos": ((2,), "float32")}, action_dim=2)


def episode(number: int, steps: int, seed: int = 0) -> Episode:
    """Each decision moves the square by -2, 0 or 2 pixels along each axis, half the time towards the middle."""
    rng = np.random.default_rng((seed, number))
    room = PIXELS - SIDE
    action, place = np.zeros((steps, 2), np.int64), np.empty((steps, 2), np.int64)
    place[0] = rng.integers(0, room // 2 + 1, 2) * 2
    for t in range(1, steps):
        towards = np.sign(room // 2 - place[t - 1])
        action[t] = np.where(rng.random(2) < 0.5, towards, rng.integers(-1, 2, 2))
        place[t] = np.clip(place[t - 1] + 2 * action[t], 0, room)
    image = np.full((steps, PIXELS, PIXELS, 3), 30, np.uint8)
    for t, (y, x) in enumerate(place):
        image[t, y : y + SIDE, x : x + SIDE] = (230, 120, 60)
    flags = {name: np.zeros(steps, bool) for name in ("is_first", "is_last", "is_terminal")}
    flags["is_first"][0] = flags["is_last"][-1] = True
    reward = (place[:, 1] / room).astype(np.float32)
    reward[0] = 0
    arrays = {
        "image": image,
        "qpos": place.astype(np.float32),
        "action": action.astype(np.float32),
        "reward": reward,
        **flags,
    }
    return Episode(key=EpisodeKey("squares", 0, number), source="random", policy_version=0, arrays=arrays)


def source(episodes: int = 24, steps: int = 24, valid_share: float = 0.25) -> MemorySource:
    return MemorySource(SPEC, [episode(n, steps) for n in range(episodes)], valid_share)


def config(dim: int = 32, **optim: object) -> Dreamer4Config:
    """Networks of some 50 thousand parameters. `optim` goes to every objective."""
    optimiser = OptimConfig(**{"lr": 3e-3, "warmup_steps": 10, "decay": 0.3, **optim})  # type: ignore[arg-type]
    trunk = TransformerConfig(dim=dim, layers=2, heads=2, kv_heads=1, time_every=2, context=6)
    still = TransformerConfig(dim=dim, layers=2, heads=2, kv_heads=2, time_every=0, softcap=0.0)
    code = TokenizerNetConfig(patch=4, latents=4, channels=4, encoder=still, decoder=still)
    world = DynamicsNetConfig(transformer=trunk, registers=2, packing=2, k_max=8)
    return Dreamer4Config(
        tokenizer=TokenizerConfig(net=code, optim=optimiser, batch_size=32, mask_share=0.2, fit_frames=256),
        dynamics=DynamicsConfig(
            net=world,
            optim=optimiser,
            batch_size=8,
            length_short=8,
            length_long=16,
            context_share=0.5,
            open_loop=OpenLoopConfig(episodes=32, context=4, horizon=8, report=(1, 4, 8)),
        ),
        agent=AgentConfig(optim=optimiser, levels=3, distances=3, bins=41, limit=2.0, batch_size=8, length=8),
        imagination=ImaginationConfig(optim=optimiser, contexts=8, context=4, horizon=4, gamma=0.5),
    )
