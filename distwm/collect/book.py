"""What was asked for and what is done: collect.json, the manifest, and episodes.jsonl, a line for each episode."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from actors.runner import episode_seed
from distwm.collect.manifest import MANIFEST, VERSION, read_manifest
from distwm.collect.plan import CollectConfig, Order, base_name
from distwm.collect.tryout import Tried
from distwm.config import redacted
from distwm.overrides import leaves
from distwm.rundir import differences, write_atomically
from distwm.statistics import wilson_interval
from replay.errors import BadInput

LEDGER = "episodes.jsonl"

# Settings that say how much is collected and by whom, not what an episode is.
MAY_CHANGE = ("out", "episodes", "minutes", "stop_s", "runner.envs_per_runner", "tasks", "runners", "at_once", "videos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One episode that the replay has acknowledged to its end."""

    number: int
    steps: int  # records, the first observation included
    total_reward: float
    success: bool | None = None  # None: the suite does not say
    at_s: float = 0.0  # of collecting, when it was acknowledged


_PLAYED = tuple(field.name for field in fields(Played))


class Book:
    """Lines of the ledger are written as episodes end; the manifest, which sums them up, now and then.

    After a crash the ledger may lack what was acknowledged last; the replay itself knows. See resume.py.
    """

    def __init__(self, root: Path, config: CollectConfig) -> None:
        """Begins, or goes on with what the directory holds. Raises BadInput if that is something else, or of other
        settings."""
        self.root, self.config = root, config
        if (root / "config.yaml").is_file():
            raise BadInput(f"{root} holds a training run.", "Give another out=.")
        begun = (root / MANIFEST).is_file()
        self.manifest: dict[str, Any] = read_manifest(root) if begun else _blank(config, _new_name(root, config))
        _compare(root, self.manifest["settings"], config)
        self.manifest["settings"] = _settings(config)
        self.manifest["asked"] = {"episodes": config.episodes, "minutes": config.minutes}
        self.played: dict[str, dict[int, Played]] = {}  # by order, by number
        self._load()
        self._file = (root / LEDGER).open("a")

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def seconds(self) -> float:
        """Of collecting so far."""
        return self.manifest["seconds"]

    def enter(self, order: Order, tried: Tried) -> None:
        """Makes room for an order. Raises BadInput if the environment shows other things than it did."""
        spec, info = tried.spec, tried.info
        row = self.manifest["orders"].setdefault(order.key, {"failures": {}})
        if row.get("spec_hash", spec.hash) != spec.hash:
            raise BadInput(
                f"{order.task} has other fields than the episodes in {self.root}.",
                "Give another out=, or the settings and packages that those were made with.",
            )
        row |= {"task": order.task, "policy": order.policy, "runners": order.runners, "run": order.run(self.name)}
        row |= {"seed": self.config.seed, "spec_hash": spec.hash, "spec": [asdict(f) for f in spec.fields]}
        row |= {"task_text": info.task_text, "fps": info.fps, "success_terminates": info.success_terminates}
        row |= {"source": _with(row.get("source", ""), tried.provenance or f"the policy {order.policy!r}")}
        row["init_states"] = info.init_states if self.config.runner.starts == "in_order" else 0
        self.played.setdefault(order.key, {})

    def add(self, order: Order, episodes: Iterable[Played]) -> None:
        """Writes a line for each; one that is there already is left as it is."""
        mine = self.played[order.key]
        for episode in episodes:
            if episode.number not in mine:
                mine[episode.number] = episode
                self._file.write(json.dumps(self._line(order.key, episode)) + "\n")
        self._file.flush()

    def forget(self, order: Order, numbers: Sequence[int]) -> None:
        """Takes lines out, of episodes that the replay has lost."""
        for number in numbers:
            del self.played[order.key][number]
        lines = [self._line(key, p) for key, played in self.played.items() for p in played.values()]
        self._file.close()
        write_atomically(self.root / LEDGER, "".join(json.dumps(line) + "\n" for line in lines))
        self._file = (self.root / LEDGER).open("a")

    def success_terminates(self) -> dict[str, bool]:
        """Of each order, by its key."""
        return {key: row.get("success_terminates", False) for key, row in self.manifest["orders"].items()}

    def _line(self, key: str, episode: Played) -> dict[str, Any]:
        """What names the episode for others, and how it went."""
        row = self.manifest["orders"][key]
        line = {"order": key, **asdict(episode), "seed": episode_seed(row["seed"], episode.number)}
        if states := row.get("init_states"):
            line |= {"init_state": episode.number % states, "trial": episode.number // states}
        return line

    def failures(self, order: Order) -> Mapping[str, int]:
        """By reason, of all commands so far."""
        return self.manifest["orders"][order.key]["failures"]

    def tell(self, order: Order, **more: Any) -> None:
        """Entries of the order in the manifest."""
        self.manifest["orders"][order.key] |= more

    def save(self, seconds: float, **more: Any) -> None:
        """The manifest as of now; `more` are entries of it."""
        os.fsync(self._file.fileno())
        for key, played in self.played.items():
            totals = {"episodes": len(played), "steps": sum(p.steps for p in played.values())}
            known = [p.success for p in played.values() if p.success is not None]
            self.manifest["orders"][key]["done"] = totals | ({"success": _share(known)} if known else {})
        self.manifest |= {"seconds": seconds, **more}
        write_atomically(self.root / MANIFEST, json.dumps(self.manifest, indent=1) + "\n")

    def close(self) -> None:
        self._file.close()

    def _load(self) -> None:
        """What earlier commands have written. A line that a crash cut off is dropped."""
        self.played = {key: {} for key in self.manifest["orders"]}
        path = self.root / LEDGER
        if not path.is_file():
            return
        text = path.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_atomically(path, whole)
        for key, played in read_ledger(whole):
            self.played.setdefault(key, {})[played.number] = played


def read_ledger(text: str) -> Iterable[tuple[str, Played]]:
    """(order, episode) of every line."""
    for line in text.splitlines():
        found = json.loads(line)
        yield found["order"], Played(**{name: found[name] for name in _PLAYED if name in found})


def _share(successes: Sequence[bool]) -> dict[str, float]:
    """With the 95% interval (Wilson 1927)."""
    found = wilson_interval(sum(successes), len(successes))
    return {"of": len(successes), "share": found.mean, "low": found.low, "high": found.high}


def _blank(config: CollectConfig, name: str) -> dict[str, Any]:
    return {"version": VERSION, "name": name, "settings": _settings(config), "seconds": 0.0, "orders": {}}


def _settings(config: CollectConfig) -> dict[str, Any]:
    """Every setting, without secrets, as JSON has them."""
    plain = leaves(config) | {"replay.url": redacted(config.as_run()).replay.url}
    return json.loads(json.dumps(plain))


def _with(before: str, said: str) -> str:
    """Both, where a collection went on with a source that says other things, such as another address."""
    return before if said in before.split("; and ") else "; and ".join(filter(None, (before, said)))


def _compare(root: Path, saved: Mapping[str, Any], config: CollectConfig) -> None:
    wanted = _settings(config)
    skipped = {*MAY_CHANGE, "env.task"}
    there, here = ({k: v for k, v in s.items() if k not in skipped} for s in (saved, wanted))
    if different := differences(there, here):
        raise BadInput(
            f"{root} holds episodes of other settings: {'; '.join(different)}.",
            "Give another out=, or the same settings to go on.",
        )


def _new_name(root: Path, config: CollectConfig) -> str:
    """What the runs are called by; on servers that others may use as well, with a token."""
    return f"{base_name(root)}-{secrets.token_hex(4)}" if config.replay.url else base_name(root)
