"""The turns of an online stage, step by step. Workers that count stand in for the real ones, which system tests run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.policies import PolicySpec
from actors.results import CollectStats, EpisodeResult
from distwm.config import load
from distwm.ledger import Ledger
from distwm.online import OnlineStage
from distwm.pipeline import has_acted
from distwm.stages import run_slice

LENGTH, SEEDS, WARMUP = 10, 2, 4
STAGE = {
    "budget_steps": 60,
    "slice_steps": 100,
    "policy": "mppi",
    "online.seed_episodes": SEEDS,
    "online.warmup_updates": WARMUP,
    "online.evaluate_every_steps": 20,
    "online.evaluate_policies": "[mppi:mode]",
    "online.evaluate_episodes": 1,
}


class Workers:
    """Learners, fleet and replay in one: counts what they are asked for."""

    def __init__(self, root: Path, **online: Any) -> None:
        words = {f"stages.learn.{key}": value for key, value in {**STAGE, **online}.items()}
        self.config = load("dcmpc", {"size": "tiny", "evaluate.policies": "[mppi:mode]", **words})
        self.root = root
        (root / "results").mkdir(parents=True)
        self.inserted, self.updates, self.played = 0, 0, []
        self.learners = self.fleet = self

    def inserted_steps(self) -> int:
        return self.inserted

    def check_replay(self, steps: int) -> int:
        return steps

    def weights_for(self, policy: PolicySpec) -> None:
        return None

    def size(self) -> int:
        return 1

    def collect(self, policy: PolicySpec, episodes: range, weights: Any) -> CollectStats:
        self.played.append(("collect", policy.name, policy.explored))
        steps = len(episodes) * (LENGTH + 1)
        self.inserted += steps
        return CollectStats(steps=steps, episodes=len(episodes), returns=(0.0,) * len(episodes), seconds=1.0)

    def evaluate(self, policy: PolicySpec, seeds: range, weights: Any, keep_frames: int = 0) -> list[EpisodeResult]:
        self.played.append(("evaluate", policy.name, policy.explored))
        return [EpisodeResult(seed=s, policy=policy.name, mode=policy.mode, total_reward=1.0, length=1) for s in seeds]

    def begin(self, stage: str, objective: str, total: int) -> None:
        self.total = total

    def update(self, updates: int) -> dict[str, float]:
        assert updates > 0
        self.updates += updates
        assert self.updates <= self.total
        return {}

    def refresh(self) -> None:
        """Everything is there."""

    finish = refresh

    def gate(self) -> dict[str, float]:
        return {}

    exhibits = gate

    def turn(self, ledger: Ledger) -> tuple[list[dict[str, Any]], bool]:
        return OnlineStage(self, self.config.plan[0], ledger).turn()  # type: ignore[arg-type]

    def stage(self, ledger: Ledger) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        for _ in range(100):
            more, finished = self.turn(ledger)
            records += more
            if finished:
                return records
        raise AssertionError("the stage does not end")


def steps(records: list[dict[str, Any]], kind: str) -> list[int]:
    return [record["step"] for record in records if record["kind"] == kind]


@pytest.mark.parametrize("overlap", [False, True])
def test_evaluations_come_on_the_way(tmp_path: Path, overlap: bool) -> None:
    """Also where acting and learning go on at once: before one, what is owed is learnt alone."""
    workers = Workers(tmp_path, **{"online.overlap": overlap})
    records = workers.stage(Ledger())
    assert steps(records, "evaluate") == [20, 40, 60]
    assert workers.updates == WARMUP + 40


@pytest.mark.parametrize("runners", [1, 3, 4, 100])
def test_many_runners_end_with_as_many_steps_and_updates_as_one(tmp_path: Path, runners: int) -> None:
    """Steps beyond the budget would be learnt from, but allow no updates: the last turn collects what is needed."""
    workers = Workers(tmp_path)
    workers.size = lambda: runners  # type: ignore[method-assign]
    ledger = Ledger()
    workers.stage(ledger)
    assert workers.inserted == 60 // LENGTH * (LENGTH + 1)
    assert workers.updates == WARMUP + 60 - SEEDS * LENGTH


def test_who_is_evaluated_plans_with_the_noise_that_is_left(tmp_path: Path) -> None:
    workers, ledger = Workers(tmp_path), Ledger()
    workers.stage(ledger)
    explored = [number for kind, name, number in workers.played if kind == "collect" and name == "mppi"]
    assert explored == [0, 1, 2, 3]
    assert [number for kind, _, number in workers.played if kind == "evaluate"] == [0, 2, 4]
    ledger.next_stage()
    run_slice(workers, workers.config.plan[1], ledger)  # type: ignore[arg-type]
    assert workers.played[-1] == ("evaluate", "mppi", 4)


def test_steps_that_the_replay_lost_take_no_update_back(tmp_path: Path) -> None:
    """What was learnt from them stays learnt: the next updates are owed when as many have come again."""
    workers, ledger = Workers(tmp_path), Ledger()
    while ledger.done_steps < 40 or workers.updates < WARMUP + 20:
        workers.turn(ledger)
    workers.inserted -= 15
    records = workers.stage(ledger)
    assert [record["updates"] for record in records if record["kind"] == "update"] == [WARMUP + n for n in (25, 35, 40)]
    assert (ledger.turns.updates, workers.updates) == (WARMUP + 40, WARMUP + 40)


def test_the_curve_forgets_what_an_interrupted_attempt_evaluated(tmp_path: Path) -> None:
    """It had got further, at other steps: what it left behind in the replay makes the next evaluation a later one."""
    workers, ledger = Workers(tmp_path), Ledger()
    while not steps(workers.turn(ledger)[0], "evaluate"):
        pass
    saved, updates = replace(ledger, turns=replace(ledger.turns)), workers.updates
    workers.stage(ledger)
    workers.inserted, workers.updates = 2 * (LENGTH + 1) + 3, updates  # records that the checkpoint does not know
    workers.stage(saved)
    curve = json.loads((tmp_path / "results" / "curve.json").read_text())
    assert [row["decisions"] for row in curve] == [20, 43, 63]


def test_a_checkpoint_is_due_when_episodes_were_stored(tmp_path: Path) -> None:
    """What it does not know would be played again with the noise that it had, beside what is stored."""
    workers, ledger = Workers(tmp_path), Ledger()
    online, evaluation = workers.config.plan
    due = []
    for _ in range(6):
        records, _ = workers.turn(ledger)
        due.append((steps(records, "collect") != [], has_acted(online, records)))
    assert all(acted == saved for acted, saved in due)
    assert {acted for acted, _ in due} == {True, False}
    assert not has_acted(evaluation, [{"kind": "collect"}])
