"""Agent tokens see everything and move nothing; rewards stand with the action that caused them."""

from __future__ import annotations

import torch

from learners.dreamer4.dynamics import Dynamics, DynamicsNetConfig, agent_mask
from learners.dreamer4.segments import Segments
from learners.dreamer4.tokenizer import decoder_mask, encoder_mask
from learners.dreamer4.train_agent import targets
from learners.nn.transformer import TransformerConfig


def build(tasks: int = 3) -> Dynamics:
    torch.manual_seed(0)
    net = TransformerConfig(dim=32, layers=4, heads=2, kv_heads=1, time_every=2, context=8)
    return Dynamics(DynamicsNetConfig(transformer=net, registers=2, packing=1, k_max=8, tasks=tasks), 3, 2, 1)


def call(model: Dynamics, z: torch.Tensor, action: torch.Tensor, task: torch.Tensor | None):
    labelled = torch.ones(z.shape[:2], dtype=torch.bool)
    return model(z, model.context_noise(z), action, labelled, task)


def test_the_task_cannot_move_the_world() -> None:
    """The Jacobian of the predicted latents by the task embedding is exactly zero, that of h is not."""
    model = build()
    z, action = torch.randn(1, 5, 3, 2), torch.rand(1, 5, 1)
    out = call(model, z, action, torch.tensor([1]))
    grad = torch.autograd.grad(out.z.square().sum(), model.task_in.weight, allow_unused=True, retain_graph=True)[0]
    assert grad is None or grad.abs().max() == 0.0
    assert torch.autograd.grad((out.h * torch.randn_like(out.h)).sum(), model.task_in.weight)[0].abs().max() > 0


def test_the_world_is_the_same_with_and_without_the_agent_token() -> None:
    model = build().eval()
    z, action = torch.randn(2, 5, 3, 2), torch.rand(2, 5, 1)
    with_agent, without = call(model, z, action, torch.tensor([0, 2])), call(model, z, action, None)
    assert torch.allclose(with_agent.z, without.z, atol=1e-6)
    assert without.h is None


def test_the_agent_sees_actions_and_frames_of_now_and_before_but_not_after() -> None:
    model = build()
    z, action = torch.randn(1, 5, 3, 2, requires_grad=True), torch.rand(1, 5, 1, requires_grad=True)
    h = call(model, z, action, torch.tensor([0])).h
    dz, da = torch.autograd.grad((h[0, 2] * torch.randn_like(h[0, 2])).sum(), (z, action))  # the norm of h is fixed
    for grad in (dz.abs().amax((0, 2, 3)), da.abs().amax((0, 2))):
        assert (grad[:3] > 0).all()
        assert (grad[3:] == 0).all()


def test_masks_by_hand() -> None:
    assert agent_mask(2).tolist() == [[True, True, False], [True, True, False], [True, True, True]]
    assert encoder_mask(2, 1).tolist() == [[True, True, False], [True, True, False], [True, True, True]]
    assert decoder_mask(1, 2).tolist() == [[True, False, False], [True, True, True], [True, True, True]]


def test_targets_stand_at_their_distance() -> None:
    """action[t] caused frame t, so the policy at t aims at action[t + 1 + n], the reward head at reward[t + n]."""
    length, distances = 4, 3
    steps = torch.arange(length + distances, dtype=torch.float32)[None]
    batch = Segments(steps[..., None, None], steps[..., None], steps > 0, 10 * steps, 0.0)
    goal = targets(batch, distances)
    assert goal.action.shape == (1, length, distances, 1)
    assert goal.action[0, :, :, 0].tolist() == [[t + 1 + n for n in range(distances)] for t in range(length)]
    assert goal.reward[0].tolist() == [[10.0 * (t + n) for n in range(distances)] for t in range(length)]


def test_the_reward_head_sees_the_action_of_its_own_block() -> None:
    """Change action[t] alone: h_t, from which reward_t is read, changes; h_{t-1} does not."""
    model = build().eval()
    z, action = torch.randn(1, 4, 3, 2), torch.rand(1, 4, 1)
    other = action.clone()
    other[0, 2] += 1
    a, b = (call(model, z, x, torch.tensor([0])).h for x in (action, other))
    assert (a[0, 2] - b[0, 2]).abs().max() > 1e-4
    assert torch.equal(a[0, :2], b[0, :2])
