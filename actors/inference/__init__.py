"""Inference for several runners at once: one Ray actor acts for all of them, in batches.

To wire it up:

- whoever starts runners makes `InferenceService(config.inference, system, spec)` (Ray must be initialised), gives
  `service.inference` to each runner, calls `service.look()` now and then and `service.close()` at the end;
- a runner that has it acts with `inference.agent(index, policy, weights)` where it would have used `System.agent(...)`,
  one call after the other; it needs no system of its own;
- `InferenceError` means that the episodes must be played again from their beginnings; nothing else is lost.

Who computes changes nothing else: an episode is acted by the weights that its runner was given, from its first step to
its last, and is the same as with local inference up to the numerics of batches.
"""

from actors.inference.config import InferenceConfig
from actors.inference.messages import InferenceError
from actors.inference.remote import Inference, Lent, RemoteAgent
from actors.inference.service import InferenceService

__all__ = ["Inference", "InferenceConfig", "InferenceError", "InferenceService", "Lent", "RemoteAgent"]
