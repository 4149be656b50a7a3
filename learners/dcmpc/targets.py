"""What critics learn towards: returns of a few steps, and slowly following copies of the networks.

Shapes: T transitions, B rows.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learners.dcmpc.critics import Critics
from learners.dcmpc.policy import Policy


class Transitions(NamedTuple):
    """What T decisions brought in each of B rows, the first decision first."""

    reward: Tensor  # (T, B)
    terminal: Tensor  # (T, B) bool: it led to a terminal state
    last: Tensor  # (T, B) bool: it led to the last state of its episode, terminal or not
    inside: Tensor  # (T, B) bool: it belongs to the episode in which its row begins


class Returns(NamedTuple):
    """The return of a row is total + discount x value of its state `steps` transitions later."""

    total: Tensor  # (B,)
    discount: Tensor  # (B,); 0 where the row terminated
    steps: Tensor  # (B,) int64; 0 where a row has no transition at all


def n_step(seen: Transitions, n: int, gamma: float, gamma_bug: bool = False, done_bug: bool = False) -> Returns:
    """Returns of up to n <= T steps, fewer where the episode ends.

    A time limit cuts the sum short, and the last state's value takes the place of the rest; a terminal state has none.

    The released code differs in two ways: with n = 1 it never discounts (`gamma_bug`), and with n > 1 it drops reward
    and discount of the step that ends the episode, and goes on from terminal states (`done_bug`).
    """
    inside = seen.inside[:n]
    counted, terminal = inside, (seen.terminal[:n] & inside).any(0)
    if done_bug and n > 1:
        counted, terminal = inside & ~seen.last[:n], torch.zeros_like(terminal)
    powers = gamma ** torch.arange(n, dtype=torch.float32)[:, None]
    total = (powers * counted * seen.reward[:n]).sum(0)
    exponent = torch.zeros_like(counted[0], dtype=torch.long) if gamma_bug and n == 1 else counted.sum(0)
    return Returns(total, gamma**exponent * ~terminal, inside.sum(0))


class Targets(nn.Module):
    """Copies of critics and policy that move a share `tau` of the way after each update of theirs."""

    def __init__(self, critics: Critics, policy: Policy, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.critics = copy.deepcopy(critics).requires_grad_(False)
        self.policy = copy.deepcopy(policy).requires_grad_(False)

    def follow_critics(self, critics: Critics) -> None:
        self._follow(self.critics, critics)

    def follow_policy(self, policy: Policy) -> None:
        self._follow(self.policy, policy)

    @torch.no_grad()
    def _follow(self, target: nn.Module, live: nn.Module) -> None:
        torch._foreach_lerp_(list(target.parameters()), list(live.parameters()), self.tau)
