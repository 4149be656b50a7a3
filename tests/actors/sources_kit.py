"""Action sources for tests, on numpy and our own light modules: one echoes and fails as it is told to, one rests."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from actors.sources.protocol import libero_fields, of_any_size
from actors.sources.source import GRIPPER, ActionChunk, Request, SourceSpec

SPEC = SourceSpec(
    action_dim=7,
    horizon=10,
    fps=20.0,
    fields=of_any_size(libero_fields(224)),
    gripper=GRIPPER,
    provenance="a test: an echo of the state",
)


def request(number: int = 0, size: int = 224, executed: int = 0, **changes: Any) -> Request:
    """What LIBERO would show, filled with `number`."""
    fields = {
        "agentview": np.full((size, size, 3), number % 256, np.uint8),
        "wrist": np.full((size, size, 3), (number + 1) % 256, np.uint8),
        "proprio": (number + np.arange(8)).astype(np.float32),
    }
    done = np.full((executed, 7), 0.5, np.float32)
    given: dict[str, Any] = {
        "prompt": f"task {number}",
        "episode": number,
        "step": 5,
        "seed": 100 + number,
        "number": number,
    }
    return Request(**({"fields": fields, "executed": done} | given | changes))


def echo(asked: Request, horizon: int = 10) -> np.ndarray:
    """(horizon, 7): what an Echo answers; every part of the request is in it."""
    pictures = [float(asked.fields[name].astype(np.float64).mean()) for name in ("agentview", "wrist")]
    rest = [asked.episode, asked.step, asked.seed, len(asked.prompt), len(asked.executed)]
    row = asked.fields["proprio"][:7] + np.array([*pictures, *rest]) / 1024
    return (row + np.arange(horizon)[:, None]).astype(np.float32)


class Echo:
    """`fault` happens at the request whose step is `at`; `slow_s` passes before each answer, `first_s` before the
    first."""

    spec = SPEC

    def __init__(self, fault: str = "", at: str = "5", slow_s: str = "0", first_s: str = "0") -> None:
        self._fault, self._at = fault, int(at)
        self._slow_s, self._first_s = float(slow_s), float(first_s)
        self.batches: list[int] = []

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        begun = time.perf_counter()
        time.sleep(self._slow_s + (0 if self.batches else self._first_s))
        self.batches.append(len(requests))
        actions = np.stack([self._wrong(one, echo(one)) for one in requests])
        took_s = np.full(len(requests), time.perf_counter() - begun)
        return ActionChunk(actions=actions, latency_s=took_s, source_s=took_s)

    def close(self) -> None: ...

    def _wrong(self, asked: Request, actions: np.ndarray) -> np.ndarray:
        if asked.step != self._at or not self._fault:
            return actions
        if self._fault == "raise":
            raise ZeroDivisionError("the policy is unwell")
        if self._fault == "exit":
            os._exit(3)
        if self._fault == "nan":
            actions[3, 2] = np.nan
        return actions[:4] if self._fault == "short" else actions


class Still:
    """Never moves, and takes no time over it."""

    spec = SPEC

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        nothing = np.zeros(len(requests))
        return ActionChunk(actions=np.zeros((len(requests), 10, 7), np.float32), latency_s=nothing, source_s=nothing)

    def close(self) -> None: ...
