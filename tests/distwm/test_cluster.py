"""Ray that does not come up is no defect of the run: it may be tried again."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from distwm.cluster import ray_cluster
from distwm.config import RunConfig
from replay.errors import TryAgain


def raising(error: Exception) -> Any:
    def init(**options: Any) -> None:
        raise error

    return init


def test_a_machine_too_busy_for_ray_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", raising(Exception("The current node timed out during startup.")))
    with pytest.raises(TryAgain, match="timed out"), ray_cluster(RunConfig()):
        pass


def test_what_ray_does_not_understand_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "init", raising(ValueError("object_store_memory")))
    with pytest.raises(ValueError, match="object_store"), ray_cluster(RunConfig()):
        pass
