"""`distwm.envs watch`: an episode of a policy as a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from gymnasium.wrappers import TimeLimit

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, episode_spec, info_of, make
from actors.policies import SCRIPTED, PolicySpec, build
from actors.rollout import rollout
from distwm.videos import write_video
from replay.errors import BadInput

SLOWEST, FASTEST = 4.0, 60.0  # frames a second of a video


def watch(config: EnvConfig, policy: str, path: Path | None, seed: int, steps: int) -> str:
    """Plays an episode and films it; a line that says how it went and where the video is. Raises BadInput, Missing."""
    if policy not in SCRIPTED:
        raise BadInput(f"{policy!r} is no policy without weights.", f"Choose one of: {', '.join(SCRIPTED)}.")
    if steps < 1:
        raise BadInput(f"--steps is {steps}.", "Give 1 or more.")
    blind = replace(config, pixels=False, state=True)  # scripted policies look at no pixels; render() films
    agent = build(PolicySpec(name=policy), blind, episode_spec(blind), BehaviourConfig(), None)
    env = make(blind, seed)
    try:
        info = info_of(env)
        (outcome,) = rollout([TimeLimit(env, steps)], agent, [seed], agent_seed=seed, keep_frames=1)
    finally:
        env.close()
    frames = np.asarray(outcome.frames)
    target = path or Path(f"{config.task.replace('/', '-')}-{policy}.mp4")
    written = write_video(target, frames, fps=min(max(info.fps, SLOWEST), FASTEST))
    return f"{written}: {outcome.length} decisions, return {outcome.total_reward:.4g}"
