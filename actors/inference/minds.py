"""Systems by the version of their weights, each with its agents and what those remember."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from actors.inference.carries import Carries
from actors.inference.messages import Key
from actors.policies import PolicySpec, trained
from learners.system import System, SystemConfig
from learners.weights import Weights
from replay.schema import EpisodeSpec


class Mind:
    """One set of weights."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._carries: dict[tuple[str, int], Carries] = {}

    def carries(self, policy: PolicySpec) -> Carries:
        """Of that agent; the mode makes no other. Raises BadInput for a policy that the system does not have."""
        kind = (policy.name, policy.explored)
        if kind not in self._carries:
            self._carries[kind] = Carries(trained(policy, self.system))
        return self._carries[kind]

    @property
    def all(self) -> list[Carries]:
        return list(self._carries.values())

    def forget_idle(self) -> None:
        self._carries = {kind: carries for kind, carries in self._carries.items() if carries.rows}

    @property
    def rows(self) -> int:
        return sum(carries.rows for carries in self.all)


class Minds:
    """The newest weights, and older ones for as long as episodes go on that began with them."""

    def __init__(self, config: SystemConfig, spec: EpisodeSpec, device: torch.device) -> None:
        self._config, self._spec, self._device = config, spec, device
        self._minds: dict[int, Mind] = {}

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(sorted(self._minds))

    @property
    def rows(self) -> int:
        return sum(mind.rows for mind in self._minds.values())

    def get(self, version: int) -> Mind | None:
        return self._minds.get(version)

    def add(self, weights: Weights) -> None:
        """Takes the weights unless it has them. Raises BadInput if they do not fit."""
        if weights.version in self._minds:
            return
        system = self._retired() or self._config.build(self._spec)
        module = cast(nn.Module, system).to(self._device).eval()
        weights.apply(module)
        self._minds[weights.version] = Mind(system)

    def drop(self, key: Key) -> None:
        for carries in self._all():
            carries.drop(key)

    def drop_others(self, client: str, life: str) -> None:
        """What other agents of the client than this one left."""
        for carries in self._all():
            for key in carries:
                if key.client == client and key.life != life:
                    carries.drop(key)

    def drop_unused(self, since_s: float) -> int:
        """Returns how many there were."""
        found = [(carries, key) for carries in self._all() for key in carries.unused(since_s)]
        for carries, key in found:
            carries.drop(key)
        for mind in self._minds.values():
            mind.forget_idle()
        return len(found)

    def _all(self) -> list[Carries]:
        return [carries for mind in self._minds.values() for carries in mind.all]

    def _retired(self) -> System | None:
        """A system for other weights: of an old version that nobody uses. All others like it are let go."""
        idle = [version for version in self.versions[:-1] if not self._minds[version].rows]
        systems = [self._minds.pop(version).system for version in idle]
        return systems[0] if systems else None
