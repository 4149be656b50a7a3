"""An action source as an agent: executes the first actions of each chunk, then asks for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from actors.envs.registry import EnvConfig, EnvInfo, describe
from actors.envs.stepping import in_thread
from actors.sources.opening import open_source
from actors.sources.source import ActionSource, Request, SourceConfig
from learners.agent import Mode, Observation, Plans

Recode = Callable[[np.ndarray], np.ndarray]  # chunks (B, H, A) -> chunks (B, H, A)


@dataclass(slots=True)
class Row:
    """What is remembered of one episode."""

    seed: int
    chunk: np.ndarray  # (H, A) in force
    executed: int  # of its actions
    number: int = 0  # of the episode
    step: int = 0  # decisions of the episode

    def done(self) -> np.ndarray:
        """(k, A) of the chunk in force; none at the episode's start."""
        return self.chunk[: self.executed if self.step else 0]


@dataclass(slots=True)
class Carry:
    rows: list[Row] = field(default_factory=list)


class SourceAgent:
    """Each row is for itself. All rows that need a chunk ask at once; requests are fixed by the episode's seed and the
    step, so that an episode that is played again asks for the same."""

    def __init__(self, source: ActionSource, prompt: str, execute_steps: int, recode: Recode | None = None) -> None:
        """`recode` is what becomes of a chunk before it is executed: a tokenizer that encodes and decodes it."""
        self._source, self._prompt, self._recode = source, prompt, recode
        self._shape = (source.spec.horizon, source.spec.action_dim)
        self._execute_steps = min(execute_steps, source.spec.horizon)

    def start(self, batch_size: int, seed: int) -> Carry:
        seeds = np.random.SeedSequence(seed).generate_state(batch_size).tolist()
        return Carry([Row(one, np.zeros(self._shape, np.float32), self._execute_steps) for one in seeds])

    def start_episode(self, number: int, seed: int) -> Carry:
        carry = self.start(1, seed)
        carry.rows[0].number = number
        return carry

    def act(self, observation: Observation, carry: Carry, mode: Mode = "sample") -> tuple[np.ndarray, Carry]:
        """Raises what the source does."""
        needy = [number for number, row in enumerate(carry.rows) if row.executed >= self._execute_steps]
        if needy:
            self._ask(observation, carry, needy)
        actions = np.stack([row.chunk[row.executed] for row in carry.rows])
        for row in carry.rows:
            row.executed, row.step = row.executed + 1, row.step + 1
        return actions, carry

    def plans(self, carry: Carry) -> Plans:
        executed = np.array([row.executed - 1 for row in carry.rows], np.int32)
        return Plans(actions=np.stack([row.chunk for row in carry.rows]), steps=executed)

    def join(self, carries: Sequence[Carry]) -> Carry:
        return Carry([row for carry in carries for row in carry.rows])

    def split(self, carry: Carry, sizes: Sequence[int]) -> list[Carry]:
        ends = np.cumsum(sizes).tolist()
        return [Carry(carry.rows[end - size : end]) for size, end in zip(sizes, ends, strict=True)]

    def _ask(self, observation: Observation, carry: Carry, needy: Sequence[int]) -> None:
        requests = [
            Request(
                fields={name: values[number] for name, values in observation.fields.items()},
                prompt=self._prompt,
                episode=carry.rows[number].seed,
                step=carry.rows[number].step,
                seed=_draw(carry.rows[number]),
                executed=carry.rows[number].done(),
                number=carry.rows[number].number,
            )
            for number in needy
        ]
        chunks = self._source.act(requests).actions
        chunks = chunks if self._recode is None else self._recode(chunks)
        for number, chunk in zip(needy, chunks, strict=True):
            carry.rows[number].chunk, carry.rows[number].executed = chunk, 0


class RemoteSourceAgent(SourceAgent):
    """For sources elsewhere: other environments go on while a chunk is on its way."""

    def begin_act(
        self, observation: Observation, carry: Carry, mode: Mode = "sample"
    ) -> Future[tuple[np.ndarray, Carry]]:
        if any(row.executed >= self._execute_steps for row in carry.rows):
            return in_thread(partial(self.act, observation, carry, mode))
        answer: Future[tuple[np.ndarray, Carry]] = Future()
        answer.set_result(self.act(observation, carry, mode))
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """A source that a runner has opened, and how it is followed."""

    source: ActionSource
    prompt: str  # the task in words
    execute_steps: int
    remote: bool  # whether it thinks elsewhere

    def agent(self, recode: Recode | None = None) -> SourceAgent:
        kind = RemoteSourceAgent if self.remote else SourceAgent
        return kind(self.source, self.prompt, self.execute_steps, recode)

    @property
    def needs_pixels(self) -> bool:
        return any(field.dtype == "uint8" for field in self.source.spec.fields)


def follow(config: SourceConfig, env: EnvConfig, info: EnvInfo) -> Following:
    """Opens the source of a configuration. Raises what `open_source` does."""
    source = open_source(config, env)
    return Following(source=source, prompt=info.task_text, execute_steps=config.execute_steps, remote=config.remote)


@contextmanager
def briefly(config: SourceConfig, env: EnvConfig) -> Iterator[Following | None]:
    """To see whether it can be followed at all; None where no source is set."""
    following = follow(config, env, describe(env)[1]) if config.kind else None
    try:
        yield following
    finally:
        if following:
            following.source.close()


def _draw(row: Row) -> int:
    return int(np.random.SeedSequence([row.seed, row.step]).generate_state(1)[0])
