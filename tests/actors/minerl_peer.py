"""In MineRL's interpreter: answers questions about herobraine's spaces and our conversions, a line of JSON each."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

warnings.filterwarnings("ignore")
sys.path.insert(0, sys.argv[1])

import numpy as np  # noqa: E402
from lxml import etree  # noqa: E402
from minerl.herobraine import envs  # noqa: E402

from actors.hosting import plain  # noqa: E402
from actors.hosting.guests import minerl, minerl_spaces  # noqa: E402

POV = 64


class Peer:
    """Each method answers one question."""

    def listed(self) -> list:
        return [[spec.name, spec.max_episode_steps] for spec in envs.BASIC_ENV_SPECS]

    def space(self, task: str) -> dict:
        """Ours beside the names and words of the package's own."""
        ours = minerl_spaces.action_space(spec(task).action_space)
        theirs = package(task).action_space.spaces
        words = {name: list(map(str, one.values)) for name, one in theirs.items() if hasattr(one, "values")}
        return {"ours": ours, "names": list(theirs), "words": words}

    def hero(self, task: str, action: dict) -> dict:
        """Herobraine's action of ours, and whether the package's space has it."""
        found = minerl_spaces.to_hero(spec(task).action_space, action)
        theirs = package(task).action_space.spaces
        return {"action": found, "theirs": all(found[name] in one for name, one in theirs.items())}

    def ours(self, task: str, action: dict) -> dict:
        return minerl_spaces.from_hero(spec(task).action_space, action)

    def sample(self, task: str, seed: int) -> dict:
        """An action of the package's own."""
        package(task).action_space.seed(seed)
        return package(task).action_space.sample()

    def no_op(self, task: str) -> dict:
        return package(task).action_space.no_op()

    def mission(self, task: str, keys: list) -> list:
        """What the game's own schema finds wrong in the missions of the package and of ours."""
        schemas = minerl.package() / "Malmo" / "Schemas"
        schema = etree.XMLSchema(etree.parse(str(schemas / "Mission.xsd")))
        specs = [package(task), minerl.make_spec(task, POV, 100, keys)]
        return [
            None if schema.validate(etree.fromstring(s.to_xml().encode())) else str(schema.error_log) for s in specs
        ]

    def observe(self, task: str, seed: int) -> dict:
        """An observation that the package drew, leaf by leaf, and our state of it with its bounds."""
        theirs = package(task).observation_space
        theirs.seed(seed)
        seen = theirs.sample()
        state = minerl_spaces.State(spec(task).observation_space)
        leaves = {"$".join(n): minerl_spaces._inside(seen, n) for n, _ in minerl_spaces.leaves(theirs) if n != ("pov",)}
        vector = state.read(seen) if leaves else np.zeros(0)
        found = state.space() if leaves else plain.box(0, 1, (0,), np.float32)
        return {"leaves": leaves, "fields": state.fields, "state": vector, "low": found["low"], "high": found["high"]}


_made: dict = {}


def spec(task: str) -> Any:
    """As the guest makes it."""
    if task not in _made:
        _made[task] = minerl.make_spec(task, POV, 100, ())
    return _made[task]


def package(task: str) -> Any:
    return envs.ENV_SPEC_MAPPINGS[f"MineRL{task}-v0"]


def simple(value: object) -> object:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def main() -> None:
    peer = Peer()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(getattr(peer, name)(*arguments), default=simple) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
