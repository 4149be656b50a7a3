"""The contract of an action source: whoever predicts chunks of actions from what an environment shows.

Light on purpose: numpy and our own plain records, so that interpreters of other packages can import it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from replay.schema import FieldSpec

ANY = -1  # in the shape of a field: as many as there are (pictures of any size, which the source makes fit)
GRIPPER = "-1 open, +1 closed"  # LIBERO's and robosuite's; RLDS conversions of LIBERO have 0 closed, 1 open


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What a source reads and predicts."""

    action_dim: int
    horizon: int  # steps of a chunk
    fps: float  # decisions a second that the actions are meant for
    fields: tuple[FieldSpec, ...]  # of an observation that it reads; ANY in a shape stands for every size
    gripper: str  # the convention of the last action, such as GRIPPER; empty without a gripper
    provenance: str  # who predicts, in words: goes into the card of every data set. Scripted data says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one environment shows, and what fixes the answer: the same request has the same answer."""

    fields: Mapping[str, np.ndarray]  # of one observation, without a batch axis
    prompt: str  # the task in words
    episode: int  # fixes how the episode differs from others
    step: int  # decisions of the episode so far
    seed: int  # of the source's draws for this request
    executed: np.ndarray  # (k, A) float32: what was done of the chunk before; (0, A) at an episode's start
    number: int = 0  # of the episode in the run


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionChunk:
    """The answers to B requests, in their order."""

    actions: np.ndarray  # (B, T, A) float32, finite
    latency_s: np.ndarray  # (B,) from the question to the answer, as we measured it
    source_s: np.ndarray  # (B,) of thinking, as the source says; nan if it does not


class ActionSource(Protocol):
    """Stateless from request to request, so that a repeated one does no harm; may be asked by several threads."""

    @property
    def spec(self) -> SourceSpec: ...

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        """A chunk for each request. Raises the errors of errors.py, BadInput for requests that lack what it reads."""
        ...

    def close(self) -> None:
        """Lets go of connections, threads and processes. Harmless when repeated."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """Who predicts chunks of actions, and how much of each is executed. Kinds ignore the keys that mean nothing to
    them. The deadlines are explained in actors/README.md."""

    kind: Literal["", "scripted", "openpi", "lerobot", "recorded"] = ""  # empty: there is no source
    execute_steps: int = 5  # actions of a chunk, before the next one is asked for
    horizon: int = 10  # actions of a chunk
    variety: float = 1.0  # of scripted episodes; 0: all alike
    path: str = ""  # lerobot: folder of the checkpoint; recorded: file or folder
    format: Literal["", "dataset", "lerobot", "libero", "npz"] = ""  # recorded; empty: as the path looks
    url: str = "ws://127.0.0.1:8000"  # openpi; also wss:// and unix:///path/of.sock
    api_key_env: str = ""  # openpi: the name of the variable that holds the key, never the key itself
    connections: int = 4  # openpi: requests at a time
    image_size: int = 224  # openpi: pixels a side of the pictures that its policy wants
    action_dim: int = 7  # openpi, whose servers do not say; nor do they say fps and gripper
    fps: float = 20.0  # openpi, lerobot, recorded
    gripper: str = GRIPPER  # openpi, lerobot, recorded: what the last action means; nothing is converted
    connect_timeout_s: float = 30.0  # until the server has said who it is; refused connections are tried again
    first_timeout_s: float = 600.0  # for the first answer on a connection: the server may still compile
    timeout_s: float = 30.0  # for every other answer
    retries: int = 3  # requests sent again, each on a new connection, after one broke
    keepalive_s: float = 20.0  # between pings, which need no answer; 0: none
    policy_type: str = "pi05"  # lerobot: what the checkpoint must be
    tokenizer: str = ""  # lerobot: folder of the tokenizer, if the checkpoint's folder holds none
    device: str = ""  # lerobot: cpu, cuda, ...; empty: cuda where there is one
    max_batch: int = 16  # lerobot: requests computed together
    max_wait_ms: float = 5.0  # lerobot: for others to come along

    @property
    def plan_steps(self) -> int:
        """Of the chunks that records hold; 0 where no source is set."""
        return self.horizon if self.kind else 0

    @property
    def remote(self) -> bool:
        """Whether it thinks in another process."""
        return self.kind in ("openpi", "lerobot")
