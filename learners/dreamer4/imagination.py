"""Phase 3: a policy improves inside the frozen world model (Dreamer 4, section 3.4: PMPO with a prior).

Shapes: B contexts (one dream each), H dreamt frames, A action dimensions, D channels of the agent token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from learners.dreamer4.dynamics import Dynamics
from learners.dreamer4.segments import Segments
from learners.dreamer4.shortcut import Conditions, commit, generate
from learners.dreamer4.train_agent import AgentHeads
from learners.maths import group_mean
from learners.nn.heads import PolicyHead


class Dream(NamedTuple):
    """h_0 read the last true frame; action_t led to frame t + 1, which brought reward_{t+1} and h_{t+1}."""

    h: Tensor  # (B, H + 1, D)
    action: Tensor  # (B, H, A)
    reward: Tensor  # (B, H)


@torch.no_grad()
def dream(
    dynamics: Dynamics,
    heads: AgentHeads,
    policy: PolicyHead,
    context: Segments,
    horizon: int,
    steps: int,
    generator: torch.Generator,
) -> Dream:
    """One dream per context (B, T, ...): the true frames first, then `horizon` frames of the policy's own making."""
    z = dynamics.standardise(context.z)
    task = torch.zeros(len(z), dtype=torch.long, device=z.device)
    cache = dynamics.cache(len(z), z.device)
    given = Conditions(context.action, context.labelled)
    for t in range(z.shape[1]):
        h = commit(dynamics, cache, z[:, [t]], Conditions(*(x[:, [t]] for x in given)), task, generator).h
    seen, actions = [], []
    known = torch.ones_like(context.labelled[:, :1])
    for _ in range(horizon):
        assert h is not None
        seen.append(h)
        actions.append(policy.now(h).sample(generator))
        now = Conditions(actions[-1], known)
        frame = generate(dynamics, cache, (len(z), 1, *z.shape[2:]), now, steps, generator)
        h = commit(dynamics, cache, frame, now, task, generator).h
    assert h is not None
    h_all = torch.cat([*seen, h], dim=1)
    reward = heads.reward.mean(heads.reward(h_all[:, 1:])[..., 0, :])
    return Dream(h_all, torch.cat(actions, dim=1), reward)


def pmpo_loss(log_prob: Tensor, advantage: Tensor, kl: Tensor, alpha: float, beta: float) -> Tensor:
    """(1 - alpha) mean_{A<0} log pi - alpha mean_{A>=0} log pi + beta mean KL[pi || prior] (section 3.4, equation 11).

    Only the sign of the advantage counts, and each group has its own mean. All arguments have one shape.
    """
    good = advantage >= 0
    return (1 - alpha) * group_mean(log_prob, ~good) - alpha * group_mean(log_prob, good) + beta * kl.mean()
