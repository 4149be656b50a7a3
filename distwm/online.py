"""A stage in which acting and learning take turns: seed episodes, warm-up, then as many updates as steps are stored."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np

from actors.policies import PolicySpec
from actors.results import CollectStats, EpisodeResult
from distwm.closing import close_stage
from distwm.crew import Crew
from distwm.evaluate import EvaluateConfig, evaluate, policy_spec
from distwm.ledger import Ledger
from distwm.recipe import OnlineConfig, PlannedStage
from distwm.rundir import write_atomically

Record = dict[str, Any]


class OnlineStage:
    """One turn of an online stage at a time.

    What is owed in updates follows from the replay's own count of inserted steps, so the ratio is exact at the end of
    each turn, whoever collected, and also after a crash that left steps behind which the last checkpoint does not know.
    """

    def __init__(self, crew: Crew, stage: PlannedStage, ledger: Ledger) -> None:
        self.crew, self.stage, self.ledger = crew, stage, ledger
        self.turns = ledger.turns

    @property
    def config(self) -> OnlineConfig:
        return self.stage.config.online

    def turn(self) -> tuple[list[Record], bool]:
        """What the next turn reports, and whether the stage is finished."""
        if self.turns.from_steps < 0:
            self.turns.from_steps = self.crew.inserted_steps()
        if self.turns.seed_steps < 0:
            return self._seed(), False
        if not self.turns.begun:
            self._begin()
        if self._evaluation_is_due():
            return self._evaluate(), False
        debt, more = self._debt(), self.ledger.done_steps < self.stage.config.budget_steps
        if debt or more:
            return self._learn_and_collect(debt, more), False
        record, finished = close_stage(self.crew, self.stage, self.ledger)
        return [record], finished

    def _seed(self) -> list[Record]:
        count = self.config.seed_episodes - self.turns.episodes
        policy = policy_spec(self.config.seed_policy)
        records = [self._collected(policy, self._collect(policy, count))] if count else []
        self.turns.seed_steps = self.ledger.done_steps
        return records

    def _begin(self) -> None:
        budget = self.stage.config.budget_steps - self.turns.seed_steps
        total = self.config.warmup_updates + round(self.config.updates_per_step * max(budget, 0))
        self.crew.learners.begin(self.ledger.attempt(self.stage), self.stage.objective, max(total, 1))
        self.turns.begun = True

    def _debt(self) -> int:
        """Updates that the stored steps allow and that are not done. Steps beyond the budget allow none; where the
        replay has lost steps that were learnt from, others come first."""
        steps = min(self.ledger.done_steps, self.stage.config.budget_steps) - self.turns.seed_steps
        owed = self.config.warmup_updates + round(self.config.updates_per_step * max(steps, 0))
        return max(owed - self.turns.updates, 0)

    def _learn_and_collect(self, debt: int, more: bool) -> list[Record]:
        """Both at once with `overlap`; else, and before an evaluation, the debt comes first, in slices, and episodes
        when it is paid."""
        updates = min(debt, self.stage.config.slice_steps)
        warm = self.turns.updates + updates >= self.config.warmup_updates
        overlaps = self.config.overlap and more and warm and updates == debt and not self._has_passed_evaluation
        if updates and not overlaps:
            return [self._learn(updates)]
        policy = replace(policy_spec(self.stage.config.policy), explored=self._explored)
        if not updates:
            return [self._collected(policy, self._collect(policy, self._wanted))]
        weights = self.crew.weights_for(policy)  # before the learners are busy
        with ThreadPoolExecutor(1, "collect") as pool:
            future = pool.submit(self._collect, policy, self._wanted, weights)
            record = self._learn(updates)
            return [record, self._collected(policy, future.result())]

    @property
    def _explored(self) -> int:
        return max(self.turns.episodes - self.config.seed_episodes, 0)

    @property
    def _wanted(self) -> int:
        """One episode for each environment, but no more than the budget needs if they are as long as those before: what
        comes beyond it allows no updates, and many environments would end with far more steps than one."""
        width = self.crew.fleet.size() * self.crew.config.runner.envs_per_runner
        done, left = self.ledger.done_steps, self.stage.config.budget_steps - self.ledger.done_steps
        needed = ceil(left * self.turns.episodes / done) if done else width
        return min(max(needed, 1), width)

    def _collect(self, policy: PolicySpec, count: int, weights: Any = None) -> CollectStats:
        episodes = range(self.ledger.episodes, self.ledger.episodes + count)
        weights = weights if weights is not None else self.crew.weights_for(policy)
        return self.crew.fleet.collect(policy, episodes, weights)

    def _collected(self, policy: PolicySpec, stats: CollectStats) -> Record:
        """Counts what was collected."""
        ledger = self.ledger
        ledger.episodes += stats.episodes
        self.turns.episodes += stats.episodes
        ledger.explored = self._explored
        ledger.collected_steps = self.crew.check_replay(ledger.collected_steps + stats.steps)
        ledger.count(self._decisions() - ledger.done_steps)
        return {
            "kind": "collect",
            "step": ledger.done_steps,
            "policy": policy.name,
            "steps": stats.steps,
            "mean_return": float(np.mean(stats.returns)),
            "steps_per_s": stats.steps_per_s,
            "retries": stats.retries,
            **{f"failures_env_{reason}": count for reason, count in stats.failures.items()},
        }

    def _decisions(self) -> int:
        """Stored since the stage began: the first record of an episode is none."""
        return self.crew.inserted_steps() - self.turns.from_steps - self.turns.episodes

    def _learn(self, updates: int) -> Record:
        self.crew.learners.refresh()
        figures = self.crew.learners.update(updates)
        self.turns.updates += updates
        return {"kind": "update", "step": self.ledger.done_steps, "updates": self.turns.updates, **figures}

    def _evaluation_is_due(self) -> bool:
        return self._has_passed_evaluation and not self._debt()

    @property
    def _has_passed_evaluation(self) -> bool:
        every = self.config.evaluate_every_steps if self.config.evaluate_policies else 0
        return bool(every) and self.ledger.done_steps // every > self.turns.evaluations

    def _evaluate(self) -> list[Record]:
        """Each policy from the same start states as in the last evaluation and in that of other runs."""
        self.turns.evaluations = self.ledger.done_steps // self.config.evaluate_every_steps
        settings = replace(self.crew.config.evaluate, episodes=self.config.evaluate_episodes, videos=0)
        return [self._evaluated(name, replace(settings, policies=(name,))) for name in self.config.evaluate_policies]

    def _evaluated(self, name: str, settings: EvaluateConfig) -> Record:
        policy = policy_spec(name)
        weights = None if policy.weightless else self.crew.weights_for(policy)
        results = evaluate(self.crew.fleet, settings, weights, self._explored)
        save_curve(self.crew, self.stage, self.ledger.done_steps, results)
        mean = float(np.mean([result.total_reward for result in results]))
        return {"kind": "evaluate", "step": self.ledger.done_steps, "policy": name, "mean_return": mean}


def save_curve(crew: Crew, stage: PlannedStage, done_steps: int, results: list[EpisodeResult]) -> None:
    """Adds one evaluation to results/curve.json, in place of what an interrupted attempt has left from there on."""
    path = crew.root / "results" / "curve.json"
    rows = json.loads(path.read_text()) if path.is_file() else []
    first = results[0]
    whose = {"stage": stage.key, "policy": first.policy, "mode": first.mode}
    passed = done_steps - done_steps % stage.config.online.evaluate_every_steps
    rows = [row for row in rows if row["decisions"] < passed or any(row[key] != whose[key] for key in whose)]
    counts = {"decisions": done_steps, "env_steps": done_steps * crew.config.env.action_repeat}
    returns = [result.total_reward for result in results]
    write_atomically(path, json.dumps([*rows, {**whose, **counts, "returns": returns}]))
