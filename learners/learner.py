"""The learner: batch -> loss -> step -> figures, one stage after another, exactly resumable at any update."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, cast
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from learners import checkpoint, optim
from learners.allocator import keep_freed
from learners.collective import Peers
from learners.compiled import CompiledLoss
from learners.device import pick_device, pinned, to_device
from learners.ema import EMA
from learners.meter import Meter
from learners.prefetch import Prefetcher
from learners.progress import Progress, Run
from learners.seeding import generator, seeded
from learners.system import Merging, Metrics, Objective, System, SystemConfig
from learners.weights import Weights
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.source import Source
from replay.sources.limited import LimitedSource


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    device: str = "auto"  # "auto" is cuda where there is one, else cpu
    precision: Literal["auto", "bf16", "float32"] = "auto"  # of the loss; "auto" is bf16 autocast on cuda, else float32
    compile: bool = False  # torch.compile of the loss, held against the loss as written in the first updates
    group: int = 1  # learners
    threads: int = 1  # of each learner
    prefetch: int = 2  # batches made ahead of time
    max_skips: int = 20  # updates in a row that may be skipped because loss or gradient is not finite
    stall_timeout_s: float = 900.0  # without any progress, before the group gives up

    def __post_init__(self) -> None:
        if min(self.group, self.threads) < 1 or min(self.prefetch, self.max_skips) < 0 or self.stall_timeout_s <= 0:
            raise BadInput(
                f"{self} asks for too little.",
                "Give group and threads from 1, prefetch and max_skips from 0, stall_timeout_s above 0.",
            )


class Learner:
    """Has a whole system and trains the part of it that the current stage's objective names.

    Every draw of update N is seeded with (seed, crc32(stage), N, rank): nothing is global, so "2N updates" and
    "N, save, load, N" end in the same bits.
    """

    def __init__(
        self,
        config: LearnerConfig,
        system: SystemConfig,
        spec: EpisodeSpec,
        source: Callable[[], Source],
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """With `world` > 1 this process must have joined a group (see learners.collective)."""
        torch.set_num_threads(config.threads)
        keep_freed()
        self.config, self.seed, self.rank = config, seed, rank
        self.device = pick_device(config.device)
        self.identity = {"system": checkpoint.hash_of(system), "spec": spec.hash}
        self.doing = "building the system"
        with seeded(seed):
            self.system: System = system.build(spec)
        self.network = cast(nn.Module, self.system).to(self.device).requires_grad_(False)
        self.peers = Peers(rank, world)
        self.version = 0
        self.drawn = 0  # steps of the batches that were trained on, in all stages; what the limiter counts
        self._make_source = source
        self._run: Run | None = None
        self._objective: Objective | None = None  # stays after the stage, for its exhibits

    @cached_property
    def _draws(self) -> LimitedSource:
        """What is trained on."""
        return LimitedSource.of(self._make_source())

    @property
    def source(self) -> Source:
        """For all else, which no limiter counts."""
        return self._draws.source

    def begin(self, stage: str, objective: str, total_updates: int) -> None:
        """Starts a stage: prepares its objective on the experience stored now, builds its optimiser once."""
        self._end_run()
        self._run = self._open(Progress(stage=stage, objective=objective, total=total_updates))
        self.version += 1

    def update(self, updates: int) -> Metrics:
        """A slice of the stage. The means of the objective's metrics over the updates that counted, and `loss`,
        `grad_norm` (before clipping), `lr` (of the last one), `updates_per_s`, `data_wait` (share of the time),
        `skipped`.

        Raises TrainingFailed when more than `max_skips` updates in a row had to be skipped.
        """
        run = self._running()
        if run.progress.step + updates > run.progress.total:
            raise ValueError(f"{updates} updates are more than stage {run.progress.stage} has left")
        self.network.train()
        meter, begun_s, waited_s, skipped = Meter(), time.monotonic(), 0.0, 0
        for _ in range(updates):
            metrics, wait_s = self._update(run)
            waited_s += wait_s
            skipped += metrics is None
            meter.add(metrics or {})
        wall_s = max(time.monotonic() - begun_s, 1e-9)
        return (
            {"loss": math.nan, "grad_norm": math.nan}
            | meter.means()
            | {
                "lr": run.lr,
                "updates_per_s": updates / wall_s,
                "data_wait": waited_s / wall_s,
                "skipped": float(skipped),
            }
        )

    def refresh(self) -> None:
        """Hears of new experience, and draws the coming batches from all there is: those made ahead are dropped."""
        run = self._running()
        run.batches.close()
        self.source.refresh()
        self._draws.begin(self.rank, self.peers.world, self.drawn, self._say)
        run.batches = self._prefetcher(run.progress, run.objective)

    def gate(self) -> Metrics:
        """Held-out figures of the current or the last stage, with the averaged weights if there are any."""
        objective = self._known_objective()
        with self._examining("gate"):
            return objective.gate(self.source)

    def exhibits(self) -> dict[str, dict[str, np.ndarray]]:
        """What the report shows of the current or the last stage: arrays by name, by the name of their file."""
        objective = self._known_objective()
        with self._examining("exhibits"):
            return {name: dict(arrays) for name, arrays in objective.exhibits(self.source).items()}

    def finish(self) -> None:
        """Ends the stage: averaged weights, if there are any, become the weights; the optimiser is dropped."""
        run = self._running()
        if run.ema:
            run.ema.keep()
        self._end_run()
        self.version += 1

    def save(self, directory: Path) -> None:
        """Everything that the next update depends on, except the replay."""
        tensors: dict[str, Mapping[str, Tensor]] = {"system": self.network.state_dict()}
        state: dict[str, Any] = {"identity": self.identity, "version": self.version, "run": None}
        state["drawn"] = self.drawn * self.peers.world  # all learners draw as much
        if run := self._run:
            state["run"] = asdict(run.progress)
            tensors["optimiser"] = run.optimiser.state()
            if run.ema:
                tensors["ema"] = run.ema.average
        checkpoint.save(directory, checkpoint.Checkpoint(tensors=tensors, state=state))

    def load(self, directory: Path) -> None:
        """Raises BadInput for a damaged checkpoint, or one of another system configuration or episode spec."""
        saved = checkpoint.load(directory)
        if saved.state["identity"] != self.identity:
            raise BadInput(
                f"{directory} is of another configuration: {saved.state['identity']} there, {self.identity} here.",
                "Use the configuration that it was trained with.",
            )
        self._end_run()
        self.network.load_state_dict(saved.tensors["system"])
        self.version = saved.state["version"]
        self.drawn = saved.state.get("drawn", 0) // self.peers.world
        if saved.state["run"] is None:
            return
        self._run = self._open(Progress(**saved.state["run"]))
        self._run.optimiser.load(saved.tensors["optimiser"])
        if self._run.ema:
            self._run.ema.load(saved.tensors["ema"], self._run.progress.ema_updates)

    def weights(self) -> Weights:
        """A copy of the whole system's weights."""
        return Weights.of(self.network, self.version)

    def close(self) -> None:
        self._end_run()

    def _open(self, progress: Progress) -> Run:
        objective = self._objective = self.system.objective(progress.objective)
        self.doing = f"preparing stage {progress.stage}"
        self._draws.begin(self.rank, self.peers.world, self.drawn, self._say)
        self.source.refresh()
        with self._examining("preparation"):
            objective.prepare(self.source)
        self.peers.share_state(self.network)  # what `prepare` has measured is the same anyway, unless peers differ
        # Only now: `prepare` may have replaced modules.
        self.network.requires_grad_(False)
        trained = objective.trained().requires_grad_(True)
        return Run(
            progress=progress,
            objective=objective,
            loss=CompiledLoss(objective, self.network) if self.config.compile else objective.loss,
            optimiser=optim.build(objective.optim, trained),
            ema=EMA(trained, decay) if (decay := optim.averaging(objective.optim)) else None,
            batches=self._prefetcher(progress, objective),
        )

    def _prefetcher(self, progress: Progress, objective: Objective) -> Prefetcher:
        make = partial(self._batch, progress.stage, progress.total, objective)
        config = self.config
        return Prefetcher(make, progress.step, progress.total, config.prefetch, config.stall_timeout_s)

    def _batch(self, stage: str, total: int, objective: Objective, step: int) -> tuple[Any, int]:
        """And the steps drawn up to it. Runs in the prefetcher's thread."""
        batch = objective.batch(self._draws, self._key(stage, step), step / total)
        return (pinned(batch) if self.device.type == "cuda" else batch), self._draws.drawn

    def _update(self, run: Run) -> tuple[dict[str, Tensor] | None, float]:
        """One update; None for its metrics if it was skipped. And the seconds it waited for its batch."""
        progress, optimiser = run.progress, run.optimiser
        self.doing = f"update {progress.step} of {progress.total} of stage {progress.stage}"
        (batch, drawn), waited_s = run.batches.next()
        waited_s += self._draws.take(drawn, self._say)
        self.drawn = drawn
        run.lr = optimiser.schedule(progress.step, progress.total)
        loss, metrics = self._forward(run, to_device(batch, self.device))
        loss.backward()
        mean_loss = self.peers.average(optimiser.parameters, loss.detach())
        norm = optimiser.clip()
        finite = bool(torch.isfinite(mean_loss) & torch.isfinite(norm))  # the one wait for the device
        if finite:
            optimiser.step()
            if isinstance(run.objective, Merging):
                run.objective.merge(self.peers)
            run.objective.stepped()
            if run.ema:
                run.ema.update()
                progress.ema_updates = run.ema.updates
        optimiser.zero_grad()
        self.peers.share_buffers(self.network)
        self.version += 1
        progress.count(finite, self.config.max_skips)
        return ({**metrics, "loss": mean_loss, "grad_norm": norm} if finite else None), waited_s

    def _forward(self, run: Run, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        key = self._key(run.progress.stage, run.progress.step)
        bf16 = self.config.precision == "bf16" or (self.config.precision == "auto" and self.device.type == "cuda")
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return run.loss(batch, generator(key, self.device))

    @contextmanager
    def _examining(self, what: str) -> Iterator[None]:
        """Nothing trains or draws batches meanwhile; the weights are those that the stage would end with."""
        run = self._run
        if run:
            run.batches.rest()
        self.doing = f"{what} of stage {run.progress.stage}" if run else what
        self.network.eval()
        with seeded(self.seed), torch.no_grad():
            if run and run.ema:
                with run.ema.applied():
                    yield
            else:
                yield

    def _say(self, waits: str) -> None:
        self.doing = f"{self.doing.partition(', ')[0]}, {waits}"

    def _key(self, stage: str, step: int) -> tuple[int, ...]:
        return (self.seed, crc32(stage.encode()), step, self.rank)

    def _running(self) -> Run:
        if self._run is None:
            raise RuntimeError("no stage is being trained: call begin() or load() first")
        return self._run

    def _known_objective(self) -> Objective:
        if self._objective is None:
            raise RuntimeError("no stage has begun: call begin() or load() first")
        return self._objective

    def _end_run(self) -> None:
        if self._run:
            self._run.batches.close()
            self._run = None
        self.network.requires_grad_(False)
