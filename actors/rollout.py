"""One agent in a vector of environments. They decide together, or in groups, whichever is ready first."""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, cast

import gymnasium
import numpy as np

from actors.envs.stepping import Signal, Wait, aside, take_turns
from actors.hosting.errors import HostedEnvError
from actors.lane import Episode, Lane, Outcome, Plan, Record
from actors.seen import Seen
from learners.agent import Agent, Mode, Numbered, Observation, Planner
from replay.errors import TrainingFailed

_log = logging.getLogger(__name__)

Sink = Callable[[int, Record], None]  # takes (number of the environment, record)


@dataclass(slots=True)
class Tally:
    """What has happened so far. It only grows, and may be read from another thread."""

    steps: int = 0  # of the environments, those of episodes that failed included
    failures: Counter[str] = field(default_factory=Counter)  # by kind (actors/hosting/errors.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """How an environment that has failed is made again: in a thread of its own, while the others go on."""

    make: Callable[[int], gymnasium.Env]  # takes its number
    retries: int  # of each episode


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """Who acts, how, and what the noise comes from."""

    agent: Agent
    seed: int
    mode: Mode
    plan_steps: int = 0  # of the chunks of actions that records keep

    @property
    def begin(self) -> Any:
        """`act` of an agent that thinks elsewhere, as a future; None: it thinks while it is asked."""
        return getattr(self.agent, "begin_act", None)

    @property
    def tells(self) -> bool:
        """Whether its plans are to be recorded."""
        return self.plan_steps > 0 and hasattr(self.agent, "plans")

    def plans(self, carry: Any) -> Iterable[Plan]:
        """The chunk of actions behind each row's last decision."""
        told = cast(Planner, self.agent).plans(carry)
        return zip(np.array(told.actions, np.float32), map(np.asarray, np.array(told.steps, np.int32)), strict=True)

    def start(self, episode: Episode) -> Any:
        """The agent's carry for one episode."""
        seed = int(np.random.SeedSequence([episode.seed, self.seed]).generate_state(1)[0])
        if isinstance(self.agent, Numbered):
            return self.agent.start_episode(episode.number, seed)
        return self.agent.start(1, seed)


def rollout(
    envs: MutableSequence[gymnasium.Env],
    agent: Agent,
    seeds: Sequence[int],
    agent_seed: int,
    mode: Mode = "sample",
    sink: Sink | None = None,
    keep_frames: int = 0,
    *,
    group: int = 0,
    repair: Repair | None = None,
    tally: Tally | None = None,
    plan_steps: int = 0,
    options: Sequence[dict[str, Any]] | None = None,
    numbers: Sequence[int] | None = None,
) -> list[Outcome]:
    """Plays one episode for each of `seeds`; an environment that is done takes the next one that waits.

    `group` environments decide together (0: all); of several groups the one acts next whose environments are ready. An
    episode is fixed by its seed and `agent_seed`, up to the numerics of batches: it is the same in any company. Which
    environment plays it is fixed by `group` and the number of environments, as episodes are dealt to groups beforehand.

    `sink` gets every record as it comes. An episode whose environment fails (HostedEnvError) ends there without a last
    record; the environment is made again, in its place in `envs`, and the episode is played from its beginning. After
    `repair.retries` failures of one episode the next one is raised; without `repair` the first. The first `keep_frames`
    episodes keep what `env.render()` shows. With `plan_steps` records hold the chunk of so many actions to which their
    action belonged. `options` go to the environment's reset, one for each episode; by `numbers` they are called.
    """
    width = min(len(envs), len(seeds))
    count = -(-width // group) if group else 1
    waiting = [
        Episode(place=n, seed=seed, number=number, keep_frames=n < keep_frames, options=given)
        for n, (seed, number, given) in enumerate(
            zip(seeds, numbers or range(len(seeds)), options or repeat(None), strict=False)
        )
    ]
    player = Player(agent=agent, seed=agent_seed, mode=mode, plan_steps=plan_steps)
    groups = [
        Group(envs, range(number, width, count), deque(waiting[number::count]), player, sink, repair, tally or Tally())
        for number in range(count)
    ]
    try:
        take_turns([group.play() for group in groups])
    finally:
        for one in groups:
            one.abandon()
    outcomes: dict[int, Outcome] = {}
    for one in groups:
        outcomes |= one.outcomes
    return [outcomes[place] for place in range(len(seeds))]


class Group:
    """Environments that decide together: all are asked, then all are heard, so that those that work elsewhere work at
    the same time. One that failed is missing until it has been made again; nobody waits for it."""

    def __init__(
        self,
        envs: MutableSequence[gymnasium.Env],
        numbers: Sequence[int],
        waiting: deque[Episode],
        player: Player,
        sink: Sink | None,
        repair: Repair | None,
        tally: Tally,
    ) -> None:
        self._envs, self._waiting, self._player, self._sink = envs, waiting, player, sink
        self._repair, self._tally = repair, tally
        self._begin, self._tells = player.begin, player.tells
        self._lanes = [Lane(number, envs[number], player.plan_steps) for number in numbers]
        self._fields = list(cast(gymnasium.spaces.Dict, envs[numbers[0]].observation_space)) if numbers else []
        self._making: dict[Lane, Signal[gymnasium.Env]] = {}
        self._failures: Counter[int] = Counter()  # of each episode, by its place
        self._asked: list[Lane] = []
        self._rows: list[Lane] = []  # of the carry: those that decide
        self._carry: Any = None
        self._changed = False  # who is to decide, or that an episode begins
        self.outcomes: dict[int, Outcome] = {}

    def play(self) -> Iterator[Sequence[Wait]]:
        """Until all episodes have been played. Yields what it waits for."""
        for lane in self._lanes:
            self._ask(lane, self._next_episode, lane)
        while True:
            yield from self._hear_all()
            if self._changed:
                self._gather()
            if self._rows:
                actions = self._think() if self._begin is None else (yield from self._have_thought(self._begin))
                plans = self._player.plans(self._carry) if self._tells else repeat(None)
                for lane, action, plan in zip(self._rows, actions, plans, strict=False):
                    self._ask(lane, lane.step, action, plan)
            elif self._making:
                lane, signal = next(iter(self._making.items()))
                yield [signal]
                self._go_on(lane)
            else:
                return
            if self._making:
                for lane in [lane for lane, signal in self._making.items() if signal.done]:
                    self._go_on(lane)

    def abandon(self) -> None:
        """Environments that are still being made are closed as soon as they are there."""
        for signal in self._making.values():
            signal.discard(lambda env: env.close())

    def _ask(self, lane: Lane, question: Callable[..., None], *given: Any) -> None:
        try:
            question(*given)
        except HostedEnvError as error:
            self._failed(lane, error)
        else:
            if lane.playing:
                self._asked.append(lane)

    def _hear_all(self) -> Iterator[Sequence[Wait]]:
        """Until every environment shows something to decide on; episodes that are over make room for the next ones."""
        while asked := self._asked:
            self._asked = []
            if waits := [lane.elsewhere for lane in asked if lane.elsewhere]:
                yield waits
            for lane in asked:
                try:
                    lane.finish()
                except HostedEnvError as error:
                    self._failed(lane, error)
                else:
                    self._heard(lane)

    def _heard(self, lane: Lane) -> None:
        if self._sink is not None:
            self._sink(lane.number, lane.record)
        if lane.is_first:
            self._changed = True
        else:
            self._tally.steps += 1
        if lane.done:
            self._changed = True
            self.outcomes[lane.episode.place] = lane.outcome()
            self._ask(lane, self._next_episode, lane)

    def _next_episode(self, lane: Lane) -> None:
        lane.playing = bool(self._waiting)
        if lane.playing:
            lane.begin(self._waiting.popleft())

    def _gather(self) -> None:
        """Makes the rows those that are to decide; an episode that begins has a carry of its own."""
        acting = [lane for lane in self._lanes if lane.playing and lane not in self._making]
        agent, rows = self._player.agent, self._rows
        parts = agent.split(self._carry, [1] * len(rows)) if len(rows) > 1 else [self._carry] * len(rows)
        known = dict(zip(rows, parts, strict=True))
        parts = [self._player.start(lane.episode) if lane.is_first else known[lane] for lane in acting]
        self._rows, self._carry = acting, agent.join(parts) if len(parts) > 1 else next(iter(parts), None)
        self._changed = False

    def _think(self) -> np.ndarray:
        """Actions (B, A) of the rows."""
        actions, self._carry = self._player.agent.act(self._observe(), self._carry, self._player.mode)
        return _checked(actions)

    def _have_thought(self, begin: Callable[..., Any]) -> Generator[Sequence[Wait], None, np.ndarray]:
        """The same elsewhere."""
        signal = Signal(begin(self._observe(), self._carry, self._player.mode))
        yield [signal]
        actions, self._carry = signal.result()
        return _checked(actions)

    def _observe(self) -> Observation:
        """What the rows show."""
        return Seen([lane.record for lane in self._rows], self._fields)

    def _failed(self, lane: Lane, error: HostedEnvError) -> None:
        """Has the environment made again, or raises the error."""
        self._changed = True
        place, seed = lane.episode.place, lane.episode.seed
        self._tally.failures[error.kind] += 1
        self._failures[place] += 1
        if self._repair is None or self._failures[place] > self._repair.retries:
            raise error
        _log.warning("Episode %d, seed %d, is played again: %s", place, seed, error)
        self._making[lane] = aside(partial(self._repair.make, lane.number))

    def _go_on(self, lane: Lane) -> None:
        """With the episode from its beginning, in the environment that was made for it."""
        signal = self._making.pop(lane)
        try:
            env = signal.result()
        except HostedEnvError as error:
            return self._failed(lane, error)
        self._envs[lane.number] = env
        lane.take(env)
        self._ask(lane, lane.begin, lane.episode)


def _checked(actions: np.ndarray) -> np.ndarray:
    """A copy: the agent may use its memory again, and records keep theirs."""
    if not math.isfinite(np.vdot(actions, actions)):
        raise TrainingFailed("The policy gave an action that is no number.", "Go back to an earlier checkpoint.")
    return np.array(actions)
