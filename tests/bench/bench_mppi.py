"""Decisions of the planner against the released agent of DC-MPC (aidanscannell/dcmpc), at equal sizes and weights.

Both sides run in one process, turn by turn, with the same number of threads. A decision is everything from the numbers
that an environment shows to its action: encoding, MPPI with its warm start, noise. Then the same for 8 environments at
once, as a runner asks for them: each with random numbers of its own.

    git clone https://github.com/aidanscannell/dcmpc && pip install torchrl tensordict vector-quantize-pytorch
    MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824 python tests/bench/bench_mppi.py dcmpc

(With glibc's own settings the memory of large batches goes back to the system after every step, to be asked for again.)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from dcmpc_peer import Peer
from timing import ratio, table, turns

from learners.agent import Observation
from learners.dcmpc import mppi
from learners.dcmpc.critics import CriticsConfig
from learners.dcmpc.exploration import ExplorationConfig
from learners.dcmpc.mppi import MPPIConfig
from learners.dcmpc.planner import Planner
from learners.dcmpc.policy import PolicyConfig
from learners.dcmpc.system import DCMPC, DCMPCConfig
from learners.dcmpc.world import WorldConfig
from replay.schema import EpisodeSpec

OBSERVATIONS, ACTIONS, ROWS = 24, 6, 8  # walker's; environments at once
NOISE = 0.1


@dataclass(frozen=True, kw_only=True)
class Size:
    name: str
    latent_dim: int
    hidden: int
    encoder: int
    mppi: MPPIConfig
    calls: int  # decisions of a turn
    repetitions: int
    many: bool = True  # whether 8 at once are measured: they take half a minute at the paper's size


SIZES = (
    Size(
        name="cpu: d32, W128, 64 x 3",
        latent_dim=32,
        hidden=128,
        encoder=128,
        mppi=MPPIConfig(samples=64, elites=16, policy_samples=8, iterations=3),
        calls=10,
        repetitions=15,
    ),
    Size(
        name="twice cpu: d64, W128, 128 x 4",
        latent_dim=64,
        hidden=128,
        encoder=128,
        mppi=MPPIConfig(samples=128, elites=16, policy_samples=8, iterations=4),
        calls=4,
        repetitions=11,
    ),
    Size(
        name="paper: d512, W512, 512 x 6",
        latent_dim=512,
        hidden=512,
        encoder=256,
        mppi=MPPIConfig(),
        calls=1,
        repetitions=3,
        many=False,
    ),
)


def build(size: Size) -> DCMPC:
    torch.manual_seed(0)
    hidden = (size.hidden, size.hidden)
    config = DCMPCConfig(
        world=WorldConfig(latent_dim=size.latent_dim, encoder=(size.encoder,), hidden=hidden, reward_high=2.0),
        critics=CriticsConfig(hidden=hidden),
        policy=PolicyConfig(hidden=hidden),
        mppi=size.mppi,
        exploration=ExplorationConfig(first=NOISE, last=NOISE),
    )
    return config.build(EpisodeSpec.build({"state": ((OBSERVATIONS,), "float32")}, action_dim=ACTIONS))


def shown(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, OBSERVATIONS)).astype(np.float32)


def ours(system: DCMPC, rows: int, calls: int) -> Callable[[], None]:
    agent = system.agent("mppi")
    carry = agent.join([agent.start(1, seed) for seed in range(rows)])
    seen = Observation(
        fields={"state": shown(rows)},
        previous_action=np.zeros((rows, ACTIONS), np.float32),
        is_first=np.zeros(rows, np.bool_),
    )

    def decide() -> None:
        nonlocal carry
        for _ in range(calls):
            _, carry = agent.act(seen, carry)

    return decide


def theirs(peer: Peer, rows: int, calls: int) -> Callable[[], None]:
    from tensordict import TensorDict

    seen = TensorDict({"state": torch.from_numpy(shown(rows))}, batch_size=[rows])
    peer.agent.select_action(seen, t0=True)

    def decide() -> None:
        for _ in range(calls):
            peer.agent.select_action(seen)

    return decide


@torch.no_grad()
def difference(system: DCMPC, peer: Peer) -> float:
    """The largest, between what the two sides expect of the same sequences of actions (all critics, no noise)."""
    config, agent = system.config.mppi, system.agent("mppi")
    assert isinstance(agent, Planner)
    state = torch.from_numpy(shown(1))
    actions = torch.rand(config.horizon, 1, 32, ACTIONS) * 2 - 1
    tried = mppi.attempt(config, agent.model, system.world.encode(state), actions)
    last = agent.model.act(tried.end_BNZ[0])[None]
    every = torch.arange(system.config.critics.members)[None]
    found = tried.reward_BN + config.discount**config.horizon * agent.model.value(tried.end_BNZ, last, every)
    return float((found[0] - expected(peer, state, actions[:, 0])).abs().max())


def expected(peer: Peer, state: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    from tensordict import TensorDict

    agent: Any = peer.agent
    z = agent.model.encode(TensorDict({"state": state}, batch_size=[1])).expand(actions.shape[1])
    values, drawn = agent._exploration_noise_schedule.values, agent.cfg.q_sample_size
    agent._exploration_noise_schedule.values, agent.cfg.q_sample_size = values * 0, None
    out = agent._single_estimate_value(z, actions)[:, 0]
    agent._exploration_noise_schedule.values, agent.cfg.q_sample_size = values, drawn
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="of github.com/aidanscannell/dcmpc")
    parser.add_argument("--sizes", nargs="+", default=[size.name.split(":")[0] for size in SIZES])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=0, help="0 = each size's own number")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for size in SIZES:
        if size.name.split(":")[0] in given.sizes:
            rows.append(measure(size, given.checkout.resolve(), given.repetitions or size.repetitions))
    head = ("size", "theirs ms", "ours ms", "faster by", f"theirs, {ROWS} at once", f"ours, {ROWS} at once")
    table((*head, "faster by", f"ours: {ROWS} against 1", "values differ by"), rows)


def measure(size: Size, checkout: Path, repetitions: int) -> list[object]:
    system = build(size)
    settings = {"exploration_noise_start": NOISE, "exploration_noise_end": NOISE}
    peer = Peer(checkout, system, OBSERVATIONS, ACTIONS, **settings)
    sides = {"theirs": theirs(peer, 1, size.calls), "ours": ours(system, 1, size.calls)}
    if size.many:
        sides["theirs, many"] = theirs(Peer(checkout, system, OBSERVATIONS, ACTIONS, **settings), ROWS, 1)
        sides["ours, many"] = ours(system, ROWS, 1)
    seconds = turns(sides, repetitions)
    one = [[s / size.calls for s in seconds[side]] for side in ("theirs", "ours")]
    cells = _cells(*one) + ["-"] * 4
    if size.many:
        many = [seconds[side] for side in ("theirs, many", "ours, many")]
        cells = [*_cells(*one), *_cells(*many), f"{ratio(many[1], one[1]):.1f}x"]
    return [size.name, *cells, f"{difference(system, peer):.0e}"]


def _cells(other: list[float], own: list[float]) -> list[str]:
    return [f"{1000 * median(other):.1f}", f"{1000 * median(own):.1f}", f"{ratio(other, own):.2f}x"]


if __name__ == "__main__":
    main()
