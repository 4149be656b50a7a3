"""Against the released agent of DC-MPC (aidanscannell/dcmpc): an update, at equal sizes, weights and batches.

Both sides run in one process, turn by turn, with the same number of threads. An update is the loss of world model,
critics and (every other time) policy, gradients, clipping, optimisers and targets; batches are made beforehand.

    git clone https://github.com/aidanscannell/dcmpc && pip install torchrl tensordict vector-quantize-pytorch
    python tests/bench/bench_dcmpc.py dcmpc
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from dcmpc_peer import Peer
from timing import ratio, table, turns

from learners import optim
from learners.allocator import keep_freed
from learners.dcmpc.batches import Stretch, Update
from learners.dcmpc.critics import CriticsConfig
from learners.dcmpc.losses import weights
from learners.dcmpc.policy import PolicyConfig
from learners.dcmpc.system import DCMPC, DCMPCConfig
from learners.dcmpc.targets import Transitions, n_step
from learners.dcmpc.train import TrainConfig
from learners.dcmpc.world import WorldConfig
from replay.schema import EpisodeSpec

OBSERVATIONS, ACTIONS = 24, 6  # walker's


@dataclass(frozen=True, kw_only=True)
class Size:
    name: str
    latent_dim: int
    hidden: int
    encoder: int
    batch: int
    repetitions: int


SIZES = (
    Size(name="cpu", latent_dim=32, hidden=128, encoder=128, batch=64, repetitions=40),
    Size(name="twice cpu", latent_dim=64, hidden=128, encoder=128, batch=128, repetitions=20),
    Size(name="paper", latent_dim=512, hidden=512, encoder=256, batch=512, repetitions=3),
)


def build(size: Size) -> DCMPC:
    torch.manual_seed(0)
    hidden = (size.hidden, size.hidden)
    config = DCMPCConfig(
        world=WorldConfig(latent_dim=size.latent_dim, encoder=(size.encoder,), hidden=hidden, reward_high=2.0),
        critics=CriticsConfig(hidden=hidden),
        policy=PolicyConfig(hidden=hidden),
        train=TrainConfig(batch_size=size.batch),
    )
    return config.build(EpisodeSpec.build({"state": ((OBSERVATIONS,), "float32")}, ACTIONS))


def stretch(size: Size) -> Stretch:
    g = torch.Generator().manual_seed(1)
    shape = (5, size.batch)
    never = torch.zeros(shape, dtype=torch.bool)
    return Stretch(
        observation=torch.randn(6, size.batch, OBSERVATIONS, generator=g),
        action=torch.rand(*shape, ACTIONS, generator=g) * 2 - 1,
        seen=Transitions(torch.rand(shape, generator=g), never, never, ~never),
    )


def ours(system: DCMPC, given: Stretch) -> Callable[[], None]:
    """One update, as the learner makes it."""
    objective = system.objective("dcmpc")
    system.requires_grad_(False)
    optimiser = optim.build(objective.optim, objective.trained().requires_grad_(True))
    config, seen = system.config.train, given.seen
    returns = n_step(seen, config.n_step, config.gamma)
    weight, whole = weights(torch.ones_like(seen.reward), config.rho), torch.ones(len(seen.reward[0]))
    number = 0

    def update() -> None:
        nonlocal number
        number += 1
        batch = Update(given.observation, given.action, seen.reward, weight, returns, whole, improves=number % 2 == 0)
        optimiser.schedule(number, 10**9)
        loss, _ = objective.loss(batch, torch.Generator().manual_seed(number))
        loss.backward()
        norm = optimiser.clip()
        assert bool(torch.isfinite(norm))
        optimiser.step()
        objective.stepped()
        optimiser.zero_grad()

    return update


def theirs(peer: Peer, given: Stretch) -> Callable[[], object]:
    samples = peer.samples(given)

    class Buffer:
        def sample(self) -> object:
            return samples

    buffer = Buffer()
    return lambda: peer.agent.update(buffer, num_new_transitions=1)


def compare(size: Size, checkout: Path, repetitions: int) -> list[object]:
    system, given = build(size), stretch(size)
    peer = Peer(checkout, system, OBSERVATIONS, ACTIONS)
    own, other = ours(system, given), theirs(peer, given)
    pair = 2  # updates of a turn: the policy's part comes every other time
    seconds = turns(
        {"ours": lambda: [own() for _ in range(pair)], "theirs": lambda: [other() for _ in range(pair)]}, repetitions
    )
    shape = f"{size.name} (d {size.latent_dim}, width {size.hidden}, batch {size.batch})"
    ms = [f"{1e3 * median(seconds[side]) / pair:.1f} ms" for side in ("ours", "theirs")]
    return [shape, f"{peer.agent.total_params / 1e6:.2f}M", *ms, f"{ratio(seconds['theirs'], seconds['ours']):.2f}x"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="of aidanscannell/dcmpc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=0, help="0 = each size's own number")
    parser.add_argument("--sizes", nargs="*", default=[size.name for size in SIZES])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed()  # as learners do; it serves both sides
    chosen = [size for size in SIZES if size.name in arguments.sizes]
    rows = [compare(size, arguments.checkout, arguments.repetitions or size.repetitions) for size in chosen]
    table(["size", "parameters", "our update", "theirs", "ours is faster by"], rows)
