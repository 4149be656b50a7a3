"""A policy server of openpi's kind, or ours, as an action source: websockets and msgpack, no openpi code.

What it must survive: servers that are killed and started again, that compile for a minute at the first request without
answering pings, that accept and never answer, that answer with something else. See actors/README.md for the deadlines.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from actors.envs.registry import EnvConfig
from actors.sources.check import check_chunk
from actors.sources.codec import pack
from actors.sources.errors import BadAnswer
from actors.sources.link import Link
from actors.sources.protocol import answer_in, libero_fields, of_any_size, request_out, spec_in
from actors.sources.source import ActionChunk, Request, SourceConfig, SourceSpec


class OpenPi:
    """As many connections as requests at a time, opened when they are needed. Each request has a whole connection."""

    def __init__(self, config: SourceConfig) -> None:
        """Connects, and hears who is there. Raises the errors of errors.py, BadInput."""
        self._config = config
        self._theirs: SourceSpec | None = None  # what one of our servers says of itself
        self._known = False
        self._links = [Link(config, self._welcome) for _ in range(max(1, config.connections))]
        self._free: queue.LifoQueue[Link] = queue.LifoQueue()  # the last one that was used is open
        for link in self._links[::-1]:
            self._free.put(link)
        self._pool = ThreadPoolExecutor(len(self._links), "openpi")
        self._links[0].open()
        self._wire = self._theirs.fields if self._theirs else libero_fields(config.image_size)
        told = self._theirs or _untold(config)
        self.spec = replace(told, fields=of_any_size(self._wire))

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        """Raises the errors of errors.py, the first one if there are several; BadInput."""
        here = len(requests) == 1  # what another thread would add is not nothing
        answers = list(map(self._answer, requests) if here else self._pool.map(self._answer, requests))
        actions, latency_s, source_s = zip(*answers, strict=True)
        return ActionChunk(actions=np.stack(actions), latency_s=np.array(latency_s), source_s=np.array(source_s))

    def warm_up(self) -> ActionChunk:
        """Asks once, of a black picture: the server compiles now, and a wrong horizon is known before an episode."""
        fields = {field.name: np.zeros([max(size, 1) for size in field.shape], field.dtype) for field in self._wire}
        nothing = np.zeros((0, self.spec.action_dim), np.float32)
        return self.act([Request(fields=fields, prompt="", episode=0, step=0, seed=0, executed=nothing)])

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, request: Request) -> tuple[np.ndarray, float, float]:
        """The actions (T, A), the seconds that they took, and those that the source says."""
        begun = time.perf_counter()
        link = self._free.get()
        try:
            message = pack(request_out(request, self._wire, self._theirs is not None, link.who))
            actions, source_s = answer_in(link.ask(message), link.who)
            return check_chunk(actions, self.spec, link.who), time.perf_counter() - begun, source_s
        finally:
            self._free.put(link)

    def _welcome(self, metadata: Any) -> None:
        """Raises BadAnswer if there is another source than at first."""
        who = self._links[0].who
        found = spec_in(metadata, who)
        if self._known and found != self._theirs:
            raise BadAnswer(f"{who} serves another source than before.", "Start again, with another data set.")
        self._theirs, self._known = found, True


def _untold(config: SourceConfig) -> SourceSpec:
    """What openpi's servers do not say."""
    return SourceSpec(
        action_dim=config.action_dim,
        horizon=config.horizon,
        fps=config.fps,
        fields=(),
        gripper=config.gripper,
        provenance=f"openpi policy server at {config.url}; which policy it serves, it does not say",
    )


def make(config: SourceConfig, env: EnvConfig) -> OpenPi:
    """Connected and warmed up. Raises the errors of errors.py, BadInput."""
    source = OpenPi(config)
    try:
        source.warm_up()
    except BaseException:
        source.close()
        raise
    return source
