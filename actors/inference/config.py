"""Settings of shared inference."""

from __future__ import annotations

from dataclasses import dataclass

from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """Actors that act for many runners. Worth it on a GPU; on CPU cores that the runners need themselves it is not."""

    actors: int = 0  # runners are dealt out among them; 0: each runner acts for itself
    cpus: float = 1.0  # of each, also its threads
    gpus: float = 0.0  # of each, a share of one GPU; 0 computes on the CPU
    batch: int = 256  # decisions that are computed together at most
    wait_s: float = 0.002  # that a decision waits for others, unless all that can come are there
    deadline_s: float = 60.0  # of a decision, with the waiting for an actor that starts again
    expire_s: float = 300.0  # without a decision after which what is remembered of an episode is dropped

    def __post_init__(self) -> None:
        for name, ok, wanted in (
            ("actors", self.actors >= 0, "0 or more"),
            ("cpus", self.cpus >= 0, "0 or more"),
            ("gpus", self.gpus >= 0, "0 or more"),
            ("batch", self.batch >= 1, "1 or more"),
            ("wait_s", self.wait_s >= 0, "0 or more"),
            ("deadline_s", self.deadline_s > 0, "above 0"),
            ("expire_s", self.expire_s > 0, "above 0"),
        ):
            if not ok:
                raise BadInput(f"fleet.inference.{name} is {getattr(self, name)!r}.", f"Set it to a value {wanted}.")
