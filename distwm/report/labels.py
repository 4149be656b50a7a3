"""What policies, readouts and figures are called on a page."""

from __future__ import annotations

import re
from collections.abc import Mapping

POLICIES: Mapping[str, str] = {
    "random": "random",
    "behaviour": "behaviour data",
    "bc": "behaviour cloning",
    "policy": "policy",
    "mppi": "MPPI planner",
    "sac": "SAC",
    "control": "control, signs shuffled",
}
READOUTS: Mapping[str, str] = {"sample": "sampled", "mode": "most likely action"}
FIGURES: Mapping[str, str] = {  # by name, or by the name before a horizon "_h<frames>"
    "probe_r2": "R² of positions read from the latents of one frame",
    "psnr": "dB",
    "gain": "foreground error of copying over the model's",
    "error": "open-loop error of the codes",
    "marginal": "the same of a guess by frequency",
    "reward_rmse": "root mean square error of the reward",
    "action_use": "error with shuffled actions over true ones",
}


def name_of(policy: str) -> str:
    return POLICIES.get(policy, policy)


def label_of(policy: str, mode: str) -> str:
    """A policy and its readout; sampled actions are the usual one and not mentioned."""
    return name_of(policy) if mode == "sample" else f"{name_of(policy)}, {READOUTS.get(mode, mode)}"


def describe(figure: str) -> str:
    """`action_use_h4` in words; empty if nothing is known about it."""
    name, _, frames = figure.rpartition("_h") if re.search(r"_h\d+$", figure) else (figure, "", "")
    text = FIGURES.get(name, "")
    return f"{text}, {frames} frames ahead" if text and frames else text
