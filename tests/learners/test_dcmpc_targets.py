"""Returns of a few steps against tables worked by hand, and copies that follow."""

from __future__ import annotations

import pytest
import torch

from learners.dcmpc.critics import Critics, CriticsConfig
from learners.dcmpc.policy import Policy, PolicyConfig
from learners.dcmpc.targets import Targets, Transitions, n_step

GAMMA = 0.5


def rows(*texts: str) -> Transitions:
    """A row a text, a transition a letter: `.` goes on, `l` ends at a time limit, `t` ends in a terminal state, `-` is
    not of this episode any more. Rewards are 1, 2, 4, 8."""
    letters = [list(text) for text in texts]
    marks = {name: torch.tensor([[c in which for c in row] for row in letters]).T for name, which in MARKS.items()}
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0])[: len(texts[0]), None].expand(-1, len(texts))
    return Transitions(reward, marks["terminal"], marks["last"], marks["inside"])


MARKS = {"terminal": "t", "last": "tl", "inside": ".tl"}

# (row, n): sum of discounted rewards, discount of the value, transitions until the state that has it.
TABLE = [
    ("....", 1, 1.0, 0.5, 1),
    ("....", 3, 1 + 2 * 0.5 + 4 * 0.25, 0.125, 3),
    ("..l-", 3, 1 + 2 * 0.5 + 4 * 0.25, 0.125, 3),  # the time limit comes with the third transition: as without it
    (".l--", 3, 1 + 2 * 0.5, 0.25, 2),  # inside: fewer rewards, and the value of the last state
    ("l---", 3, 1.0, 0.5, 1),
    (".t--", 3, 1 + 2 * 0.5, 0.0, 2),  # a terminal state has no value, but its reward counts
    ("t---", 1, 1.0, 0.0, 1),
    ("...t", 3, 1 + 2 * 0.5 + 4 * 0.25, 0.125, 3),  # after the third transition: it is not looked at
    ("----", 3, 0.0, 1.0, 0),  # the row began with the last state of its episode
]


@pytest.mark.parametrize(("text", "n", "total", "discount", "steps"), TABLE)
def test_returns_by_hand(text: str, n: int, total: float, discount: float, steps: int) -> None:
    found = n_step(rows(text, "...."), n, GAMMA)
    assert [float(found.total[0]), float(found.discount[0]), int(found.steps[0])] == [total, discount, steps]
    assert [float(found.discount[1]), int(found.steps[1])] == [GAMMA**n, n]


def test_the_released_codes_discount() -> None:
    """With n = 1 there is none; terminal states have no value even so."""
    found = n_step(rows("....", "t---"), 1, GAMMA, gamma_bug=True)
    assert found.discount.tolist() == [1.0, 0.0]
    assert n_step(rows("...."), 3, GAMMA, gamma_bug=True).discount.tolist() == [0.125]


def test_the_released_codes_last_step() -> None:
    """With n > 1 neither its reward nor its discount counts, and a terminal state has a value."""
    found = n_step(rows(".t--", "..l-", "l---", "...."), 3, GAMMA, done_bug=True)
    assert found.total.tolist() == [1.0, 2.0, 0.0, 3.0]
    assert found.discount.tolist() == [0.5, 0.25, 1.0, 0.125]
    assert found.steps.tolist() == [2, 3, 1, 3]


def test_targets_go_a_share_of_the_way() -> None:
    critics = Critics(CriticsConfig(members=2, hidden=(4,)), 3, 1)
    policy = Policy(PolicyConfig(hidden=(4,)), 3, 1)
    targets = Targets(critics, policy, tau=0.25)
    assert not any(p.requires_grad for p in targets.parameters())
    before = [p.clone() for p in targets.critics.parameters()]
    with torch.no_grad():
        for p in [*critics.parameters(), *policy.parameters()]:
            p.add_(1.0)
    targets.follow_critics(critics)
    for old, new in zip(before, targets.critics.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)
    for old, new in zip(policy.parameters(), targets.policy.parameters(), strict=True):
        torch.testing.assert_close(new + 1.0, old)
    targets.follow_policy(policy)
    for old, new in zip(policy.parameters(), targets.policy.parameters(), strict=True):
        torch.testing.assert_close(new + 0.75, old)
