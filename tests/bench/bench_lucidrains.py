"""Against lucidrains' `dreamer4` (PyPI, 0.20.2): a training step of the dynamics, and imagined frames a second.

Both sides have as many parameters (+-5%, of those that the step trains), the same batch, frames, context, latents,
tokens a frame, depth, heads, soft cap and optimiser; the bootstrap loss is computed on a quarter of the sequences;
imagination draws actions from a policy and reads rewards, K = 4, each side with its own cache. The peer runs twice: as
it comes, and without what the paper does not have (attention residuals, value residuals, gates, belief attention).

    pip install -c constraints.txt -e '.[bench]' && python tests/bench/bench_lucidrains.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import pytest
import torch
from timing import arguments, ratio, table, turns
from torch import Tensor, nn

from learners import optim
from learners.dreamer4.dynamics import Dynamics, DynamicsNetConfig
from learners.dreamer4.imagination import dream
from learners.dreamer4.segments import Segments
from learners.dreamer4.train_agent import AgentConfig, AgentHeads
from learners.dreamer4.train_dynamics import DynamicsConfig, world_loss
from learners.nn.transformer import TransformerConfig
from learners.system import OptimConfig

BATCH, FRAMES, LATENTS, CHANNELS, ACTIONS, LEVELS = 4, 12, 8, 8, 2, 5
DEPTH, HEADS, KV_HEADS, REGISTERS, K_MAX, K, HORIZON = 8, 4, 2, 8, 64, 4, 12
GROUP = 4  # training steps of a turn: the peer bootstraps whole batches, so one of four


@dataclass(frozen=True, kw_only=True)
class Match:
    """One comparison: the peer's settings, and our width that gives as many parameters."""

    name: str
    dim: int
    mlp_ratio: float
    peer: dict[str, Any]


MATCHES = (
    Match(name="as it comes", dim=160, mlp_ratio=3.4, peer={"attn_kwargs": {"query_heads": HEADS}}),
    Match(
        name="the paper's layers",
        dim=128,
        mlp_ratio=3.2,
        peer={
            "attn_kwargs": {
                "query_heads": HEADS,
                "gate_values": False,
                "belief_attn": False,
                "rmsnorm_query": True,
            },
            "transformer_kwargs": {"use_attn_pool": False, "value_residual": False},
        },
    ),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Ours:
    def __init__(self, match: Match) -> None:
        torch.manual_seed(0)
        window = FRAMES + HORIZON  # the peer forgets nothing
        net = TransformerConfig(
            dim=match.dim,
            layers=DEPTH,
            heads=HEADS,
            kv_heads=KV_HEADS,
            time_every=4,
            context=window,
            mlp_ratio=match.mlp_ratio,
        )
        # One register more, for the peer's passes always carry the agent token.
        world = DynamicsNetConfig(transformer=net, registers=REGISTERS + 1, packing=1, k_max=K_MAX)
        self.config = DynamicsConfig(net=world, length_long=window, image_share=0.0, bootstrap_share=1 / GROUP)
        self.model = Dynamics(world, LATENTS, CHANNELS, ACTIONS)
        self.heads = AgentHeads(AgentConfig(levels=LEVELS, distances=1), match.dim, ACTIONS)
        self.optimiser = optim.build(OptimConfig(), self.model)
        labelled = torch.ones(BATCH, FRAMES, dtype=torch.bool)
        labelled[:, 0] = False
        z, levels = data()
        action = levels.float() / (LEVELS - 1) * 2 - 1
        self.batch = Segments(z, action, labelled, torch.zeros(BATCH, FRAMES), progress=0.5)
        self.generator = seeded()

    def train(self) -> None:
        for _ in range(GROUP):
            world_loss(self.config, self.model, self.batch, self.generator)[0].backward()
            self.optimiser.step()
            self.optimiser.zero_grad()

    def imagine(self) -> None:
        dream(self.model, self.heads, self.heads.policy, self.batch, HORIZON, K, self.generator)

    def parameters(self) -> int:
        return trained(self.model, partial(world_loss, self.config, self.model, self.batch, self.generator))


class Peer:
    def __init__(self, match: Match) -> None:
        torch.manual_seed(0)
        self.model = peer_class()(
            dim=128,
            dim_latent=CHANNELS,
            max_steps=K_MAX,
            num_register_tokens=REGISTERS,
            num_spatial_tokens=LATENTS,
            num_latent_tokens=LATENTS,
            num_discrete_actions=(LEVELS,) * ACTIONS,
            depth=DEPTH,
            attn_heads=KV_HEADS,
            attn_dim_head=128 // HEADS,
            **match.peer,
        )
        self.optimiser = optim.build(OptimConfig(), self.model)
        self.z, self.actions = data()

    def loss(self, bootstrap: bool) -> tuple[Tensor]:
        self.model.prob_shortcut_train = float(bootstrap)
        actions = self.actions[:, 1:]
        return (self.model(latents=self.z, discrete_actions=actions, add_autoregressive_action_loss=False),)

    def train(self) -> None:
        for number in range(GROUP):
            self.loss(bootstrap=number == 0)[0].backward()
            self.optimiser.step()
            self.optimiser.zero_grad()

    def imagine(self) -> None:
        self.model.generate(
            FRAMES + HORIZON,
            num_steps=K,
            batch_size=BATCH,
            prompt_latents=self.z,
            prompt_discrete_actions=self.actions,
            return_rewards_per_frame=True,
            return_agent_actions=True,
        )

    def parameters(self) -> int:
        return trained(self.model, partial(self.loss, bootstrap=True))


def data() -> tuple[Tensor, Tensor]:
    """Latents (B, T, L, Z) in (-1, 1) and the levels of actions (B, T, A)."""
    z = torch.rand(BATCH, FRAMES, LATENTS, CHANNELS, generator=seeded(1)) * 2 - 1
    return z, torch.randint(0, LEVELS, (BATCH, FRAMES, ACTIONS), generator=seeded(2))


def trained(model: nn.Module, loss: Any) -> int:
    """Parameters that get a gradient."""
    loss()[0].backward()
    count = sum(p.numel() for p in model.parameters() if p.grad is not None)
    model.zero_grad()
    return count


def peer_class() -> type:
    """The peer imports torchvision, whose wheel may be built for another torch. Nothing of it is used here, so it is
    enough to declare the operators that it looks for."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library  # its operators live as long as it does
    from dreamer4 import DynamicsWorldModel

    return DynamicsWorldModel


def compare(match: Match, repetitions: int) -> list[list[object]]:
    ours, peer = Ours(match), Peer(match)
    counts = [side.parameters() / 1e6 for side in (ours, peer)]
    assert abs(counts[0] / counts[1] - 1) < 0.05, f"{counts} million parameters"
    sizes = [f"{count:.2f}M" for count in counts]
    steps = turns({"ours": ours.train, "peer": peer.train}, repetitions)
    dreams = turns({"ours": ours.imagine, "peer": peer.imagine}, repetitions)
    step_ms = [f"{1e3 * median(steps[side]) / GROUP:.0f} ms/step" for side in ("ours", "peer")]
    speed = [f"{BATCH * HORIZON / median(dreams[side]):.0f} frames/s" for side in ("ours", "peer")]
    return [
        [match.name, "training step", *sizes, *step_ms, f"{ratio(steps['peer'], steps['ours']):.2f}x"],
        [match.name, "imagination", *sizes, *speed, f"{ratio(dreams['peer'], dreams['ours']):.2f}x"],
    ]


def report(repetitions: int) -> None:
    head = ["dreamer4 0.20.2", "work", "our parameters", "theirs", "ours", "theirs", "ours is faster by"]
    table(head, [row for match in MATCHES for row in compare(match, repetitions)])


@pytest.mark.bench
def test_against_lucidrains() -> None:
    pytest.importorskip("x_transformers", reason="pip install -c constraints.txt -e '.[bench]'")
    torch.set_num_threads(1)
    report(repetitions=5)


if __name__ == "__main__":
    report(arguments(__doc__).repetitions or 7)
