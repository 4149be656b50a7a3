"""Run directories with plausible files, made of a moving dot: what the report reads, without the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

STAGES = {"tokenizer": (3000, 40.0), "dynamics": (5000, 500.0), "agent": (1000, 110.0), "imagination": (300, 220.0)}


def make_run(root: Path, seed: int = 0, gain: float = 40.0, episodes: int = 100, control: float = 0.0) -> Path:
    """A finished run: `gain` and `control` are the true gains over behaviour cloning."""
    (root / "results").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    write_config(root, seed)
    write_metrics(root, rng)
    write_returns(root, rng, gain, episodes, control)
    write_gates(root)
    write_frames(root, rng)
    return root


def write_config(root: Path, seed: int) -> None:
    policies = ["random", "behaviour", "bc", "bc:mode", "policy", "policy:mode", "control"]
    config = {
        "recipe": "dreamer4",
        "size": "cpu",
        "seed": seed,
        "env": {"task": "dmc/point_mass_easy"},
        "evaluate": {"policies": policies},
    }
    (root / "config.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML


def write_metrics(root: Path, rng: np.random.Generator) -> None:
    lines, number = [], 0
    for step in range(40, 401, 40):
        number += 1
        line = {"kind": "collect", "step": step, "steps": 1600, "mean_return": 60 + rng.normal() * 4, "wall_s": 5.0}
        lines.append({"stage": "collect", "round": 0, "slice": number, **line})
    for stage, (updates, wall_s) in STAGES.items():
        for step in range(updates // 50, updates + 1, updates // 50):
            number += 1
            loss = 0.02 + np.exp(-6 * step / updates) * (1 + 0.1 * rng.normal())
            line = {"kind": "update", "step": step, "loss": loss, "kl_prior": 0.05 * step / updates, "lr": 3e-4}
            lines.append({"stage": stage, "round": 0, "slice": number, "wall_s": wall_s / 50, **line})
        lines.append({"stage": stage, "round": 0, "slice": number, "kind": "stage_end", "wall_s": wall_s})
    (root / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_returns(root: Path, rng: np.random.Generator, gain: float, episodes: int, control: float) -> None:
    bc = rng.normal(70, 25, episodes)
    played = {
        ("random", "sample"): rng.normal(8, 6, episodes),
        ("behaviour", "sample"): bc + rng.normal(6, 15, episodes),
        ("bc", "sample"): bc,
        ("bc", "mode"): bc + rng.normal(3, 10, episodes),
        ("policy", "sample"): bc + rng.normal(gain, 20, episodes),
        ("policy", "mode"): bc + rng.normal(gain * 1.1, 20, episodes),
        ("control", "sample"): bc + rng.normal(control, 20, episodes),
    }
    rows = [
        {"round": 0, "policy": p, "mode": m, "seed": 1000 + k, "total_reward": max(0.0, float(r)), "length": 60}
        for (p, m), returns in played.items()
        for k, r in enumerate(returns)
    ]
    (root / "results" / "returns.json").write_text(json.dumps(rows))


def write_gates(root: Path) -> None:
    gates = {
        "tokenizer": {"probe_r2": {"value": 0.981, "threshold": ">=0.95", "passed": True}},
        "dynamics": {
            "gain_h4": {"value": 2.31, "threshold": ">1.0", "passed": True},
            "gain_h8": {"value": 2.02, "threshold": ">1.0", "passed": True},
            "action_use_h4": {"value": 1.84, "threshold": ">=1.3", "passed": True},
            "action_use_h8": {"value": 1.27, "threshold": ">=1.3", "passed": False},
        },
        "agent": {},
    }
    (root / "results" / "gates.json").write_text(json.dumps(gates))


def write_frames(root: Path, rng: np.random.Generator, context: int = 8, horizon: int = 12) -> None:
    truth = np.stack([video(rng.uniform(4, 28, 2), rng.normal(0, 1.1, 2), context + horizon) for _ in range(8)])
    blurred = truth.astype(np.float64)
    for axis in (2, 3):
        blurred = (blurred + np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis)) / 3
    prediction = truth.copy()
    prediction[:, context:] = np.roll(blurred, 1, 3)[:, context:]
    h = np.arange(1, horizon + 1)
    errors = {"model": 0.02 + 0.004 * h, "copy": 0.12 * (1 - np.exp(-h / 3)), "shuffled": 0.03 + 0.011 * h}
    errors["ceiling"] = np.full(horizon, 0.015)
    arrays: dict[str, Any] = {f"fg_{name}": error for name, error in errors.items()}
    arrays |= {f"mse_{name}": error / 60 for name, error in errors.items()}
    np.savez_compressed(
        root / "results" / "open_loop.npz", truth=truth, prediction=prediction, context=context, horizon=h, **arrays
    )
    frames = np.repeat(truth[:, :1], 2, axis=1).reshape(-1, *truth.shape[2:])
    drawn = np.repeat(blurred[:, :1], 2, axis=1).reshape(frames.shape).astype(np.uint8)
    np.savez_compressed(root / "results" / "reconstruction.npz", truth=frames, reconstruction=drawn)


def video(start: np.ndarray, velocity: np.ndarray, steps: int, size: int = 32) -> np.ndarray:
    """(T, size, size, 3) uint8: a yellow dot that bounces over a blue floor."""
    y, x = np.mgrid[:size, :size]
    floor = np.where(((x // 8 + y // 8) % 2)[..., None], (42, 70, 110), (34, 58, 94))
    line = start + velocity * np.arange(steps)[:, None]
    places = size - np.abs(line % (2 * size) - size)
    near = np.exp(-((x - places[:, 0, None, None]) ** 2 + (y - places[:, 1, None, None]) ** 2) / 4)[..., None]
    return (floor * (1 - near) + np.array((226, 190, 80)) * near).astype(np.uint8)
