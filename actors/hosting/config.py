"""How long an environment in a process of its own may take, and how much memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """Deadlines of one environment's process. One that passes a deadline is killed, with all that it started."""

    start_s: float = 300.0  # until it is made: simulators compile at first use
    reset_s: float = 120.0
    step_s: float = 60.0  # also of a picture
    close_s: float = 5.0  # to go by itself
    heartbeat_s: float = 60.0  # without a sign of any thread of the process, whatever it is asked to do
    memory_bytes: int = 8 * 2**30  # that it may allocate (RLIMIT_DATA); 0: no limit
