"""Runs one pipeline: Ray, the replay, Tune with a single trial, the figures on their way out, and the report."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ray import tune
from ray.tune import Callback, Stopper

from distwm.checkpoints import Checkpoints
from distwm.cluster import ray_cluster, replay_server
from distwm.config import RunConfig
from distwm.console import Console
from distwm.ledger import Ledger
from distwm.logs import open_sinks
from distwm.pipeline import Pipeline
from distwm.placement import bundles, shares
from distwm.rundir import RunDir
from replay import errors

_UNKNOWN = "log.txt may know why"


class StopSignal(Stopper):
    """Remembers SIGTERM or SIGINT; Tune then stops the trial, which writes its last checkpoint.

    The second signal, or `deadline_s` after the first, ends the process at once: the checkpoint before is complete.
    """

    def __init__(self, deadline_s: float) -> None:
        self.number = 0
        self._deadline_s = deadline_s

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self.number)

    @contextmanager
    def listening(self) -> Iterator[StopSignal]:
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
        timer = threading.Timer(self._deadline_s, os._exit, (128 + number,))
        timer.daemon = True
        timer.start()


class _Reporter(Callback):
    """Brings the pipeline's results to the sinks and to the person who waits."""

    def __init__(self, config: RunConfig, run_dir: RunDir, console: Console, slices: int) -> None:
        """`slices` are reported already; those that are done again after a crash are not reported again."""
        self._sinks, self._console, self._slices = open_sinks(config, run_dir), console, slices

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if result.get("slice", 0) <= self._slices:
            return
        self._slices = result["slice"]
        for record in result["records"]:
            for sink in self._sinks:
                sink.write(record)
        self._console.show(result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._console.say(f"The pipeline crashed ({_reason(trial)}); it goes on from its last checkpoint.")

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its callbacks down for a restore that we do not use, and open files cannot go there."""
        return {}

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        self._console.close()


def drive(config: RunConfig, run_dir: RunDir, console: Console) -> int:
    """Trains to the end of the plan, or to a signal. Returns 0, or the number of the signal.

    Raises the DistwmError that ended the pipeline, TrainingFailed if it crashed too often.
    """
    if is_finished(config, run_dir):
        return 0
    slices = _newest_ledger(config, run_dir).slices
    run_dir.trim_metrics(slices)
    with (
        ray_cluster(config) as resources,
        StopSignal(config.cluster.stop_timeout_s).listening() as stop,
        replay_server(config, run_dir) as served,
        closing(_Reporter(config, run_dir, console, slices)) as reporter,
    ):
        console.say(f"Run {run_dir.run_id} in {run_dir.root}")
        result = _fit(served, run_dir, resources, stop, reporter)
    if stop.number:
        return stop.number
    _raise_failure(result)
    return 0


def is_finished(config: RunConfig, run_dir: RunDir) -> bool:
    """Whether the whole plan is done."""
    return _newest_ledger(config, run_dir).stage >= len(config.plan)


def _newest_ledger(config: RunConfig, run_dir: RunDir) -> Ledger:
    newest = Checkpoints(run_dir.checkpoints, keep=config.keep_checkpoints).newest()
    return Ledger.load(newest) if newest else Ledger()


def _fit(
    config: RunConfig, run_dir: RunDir, resources: dict[str, float], stop: StopSignal, reporter: _Reporter
) -> tune.Result:
    share = shares(config, resources)
    pipeline = tune.with_parameters(Pipeline, base=config, run=run_dir.run_id, root=str(run_dir.root), share=share)
    tuner = tune.Tuner(
        tune.with_resources(pipeline, bundles(config, share)),
        tune_config=tune.TuneConfig(num_samples=1, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            name="pipeline",
            storage_path=str(run_dir.tune),
            stop=stop,
            callbacks=[reporter],
            failure_config=tune.FailureConfig(max_failures=config.cluster.max_failures),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )
    return tuner.fit()[0]


def _raise_failure(result: tune.Result) -> None:
    failure = (result.metrics or {}).get("error")
    if failure:
        kind, message, mend = failure
        raise getattr(errors, kind, errors.DistwmError)(message, mend)
    if result.error:
        raise errors.TrainingFailed(
            f"The pipeline crashed more often than cluster.max_failures allows ({_brief(str(result.error))}).",
            "Read log.txt in the run directory; the same command goes on from the last checkpoint.",
        )


def _reason(trial: Any) -> str:
    """Why the trial failed the last time, from the file in which Tune notes it."""
    path = trial.error_file
    return _brief(Path(path).read_text().rpartition("Failure # ")[2]) if path and Path(path).is_file() else _UNKNOWN


def _brief(error: str) -> str:
    """The line of a traceback that names the error, or else what Ray says of a process that died."""
    named = re.findall(r"^[\w.]*(?:Error|Exception|Exit)\b.*$|^The \w+ died.*$", error, re.MULTILINE)
    return named[-1] if named else _UNKNOWN
