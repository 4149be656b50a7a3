"""Environment runners as Ray actors, kept alive: what to ask of them, and how they are."""

from actors.fleet.config import FleetConfig, Member
from actors.fleet.fleet import Fleet
from actors.fleet.work import Done, RunnerStatus, Work

__all__ = ["Done", "Fleet", "FleetConfig", "Member", "RunnerStatus", "Work"]
