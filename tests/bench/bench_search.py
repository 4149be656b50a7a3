"""Why planning may be worse than the policy it starts from: a trained DC-MPC's plans against the real simulator.

    python tests/bench/bench_search.py RUN_DIR...

For each run of `python -m distwm.run dcmpc` on a task of the control suite, three tables. `returns`: whole episodes of
planners that differ in one thing, and of one in the true simulator instead of the model. `decisions`: states that the
policy, or the planner, meets: the action that MPPI would take is tried in the simulator, and followed by the policy.
`ranking`: from the policy's states, sequences of actions are tried in the simulator, each followed by the policy; how
well do predictions rank them?
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import mujoco
import numpy as np
import torch
from scipy.stats import spearmanr
from timing import table
from torch import Tensor

from actors.envs.dmc import DMC
from actors.envs.registry import make, spec_of
from distwm.checkpoints import LEARNER, Checkpoints
from distwm.config import load_saved
from distwm.statistics import t_interval
from learners import checkpoint
from learners.agent import Agent, Observation
from learners.dcmpc import mppi
from learners.dcmpc.mppi import MPPIConfig
from learners.dcmpc.planner import Imagined, Planner
from learners.dcmpc.system import DCMPC
from learners.draws import Draws

GAMMA = 0.99
FIRST = 1000  # episode k starts as FIRST + k says, as in evaluations
EVERY = 15  # decisions between two states that are looked at
POLICY, TRUE = "policy", "A in the true simulator, learnt value"
PLANNED = 10  # decisions of MPPI, one after the other, before the policy goes on
FOLLOWED = 250  # decisions for which the policy is followed: less than a tenth of the weight is cut off


class Trained:
    """The newest checkpoint of a run, and its environment."""

    def __init__(self, run_dir: Path) -> None:
        config = load_saved(run_dir / "config.yaml")
        newest = Checkpoints(run_dir / "checkpoints", keep=config.keep_checkpoints).newest()
        assert newest is not None, f"{run_dir} has no checkpoint"
        self.env = config.env
        simulator = self.simulator()
        self.system = cast(DCMPC, config.system.build(spec_of(simulator)))
        self.system.load_state_dict(checkpoint.load(newest / LEARNER).tensors["system"])
        self.system.eval().requires_grad_(False)
        self.noise = self.system.config.exploration.last
        self.config = self.system.config.mppi
        self.model = Imagined(self.system.world, self.system.policy, self.system.critics)

    def simulator(self) -> DMC:
        return cast(DMC, make(self.env, seed=0))

    def planner(self, config: MPPIConfig, model: mppi.Model | None = None) -> Planner:
        system = self.system
        found = Planner(config, system.world, system.policy, system.critics, "state", self.noise)
        found.model = cast(Imagined, model or found.model)
        return found

    @cached_property
    def critics(self) -> Tensor:
        """The numbers of all of them, for one row."""
        return torch.arange(self.system.config.critics.members)[None]


class Cautious(Imagined):
    """Ends of plans are worth what the most pessimistic of all critics says."""

    def value(self, z_BNZ: Tensor, a_BNA: Tensor, critics_BM: Tensor) -> Tensor:
        return self.critics(z_BNZ.flatten(0, 1), a_BNA.flatten(0, 1)).amin(0).unflatten(0, z_BNZ.shape[:2])


class Simulator:
    """The true simulator as a model for plans. A state is that of the physics, (R, qpos + qvel) float64."""

    def __init__(self, trained: Trained) -> None:
        self.imagined, self.world = trained.model, trained.system.world
        self.env = trained.simulator()
        self.env.reset(seed=0)
        self.physics, self.task = self.env._env.physics, self.env._env.task
        self.rewards: list[Tensor] = []

    def step(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        low, high = self.env._low, self.env._high
        controls = low + (np.clip(a_RA.double().numpy(), -1, 1) + 1) / 2 * (high - low)
        ends, rewards = [], []
        for state, control in zip(z_RZ.numpy(), controls, strict=True):
            self._go_to(state)
            reward = 0.0
            for _ in range(self.env.config.action_repeat):
                self.task.before_step(control, self.physics)
                self.physics.step(self.env._env._n_sub_steps)
                reward += self.task.get_reward(self.physics)
            rewards.append(reward)
            ends.append(self.physics.get_state())
        self.rewards.append(torch.tensor(rewards, dtype=torch.float32))
        return torch.from_numpy(np.stack(ends))

    def reward(self, z_RZ: Tensor, a_RA: Tensor) -> Tensor:
        """Of all steps since the last call, which were those."""
        found = torch.cat(self.rewards)
        assert len(found) == len(z_RZ)
        self.rewards = []
        return found

    def act(self, z_RZ: Tensor) -> Tensor:
        return self.imagined.act(self.encode(z_RZ))

    def value(self, z_BNZ: Tensor, a_BNA: Tensor, critics_BM: Tensor) -> Tensor:
        z = self.encode(z_BNZ.flatten(0, 1)).unflatten(0, z_BNZ.shape[:2])
        return self.imagined.value(z, a_BNA, critics_BM)

    def encode(self, z_RZ: Tensor) -> Tensor:
        return self.world.encode(self.observe(z_RZ))

    def observe(self, z_RZ: Tensor) -> Tensor:
        """What the agent would see of these states, (R, O)."""
        return torch.from_numpy(np.stack([self._observed(state) for state in z_RZ.numpy()]))

    def returns(self, z_RZ: Tensor, plans_HRA: Tensor, decisions: int = FOLLOWED) -> Tensor:
        """Discounted, (R,): of the plans' actions, and of the policy for so many decisions after them."""
        self.rewards = []
        for t in range(len(plans_HRA) + decisions):
            z_RZ = self.step(z_RZ, plans_HRA[t] if t < len(plans_HRA) else self.act(z_RZ))
        found, self.rewards = torch.stack(self.rewards), []
        return mppi.discounted(found, GAMMA)

    def _go_to(self, state: np.ndarray) -> None:
        self.physics.set_state(state)
        mujoco.mj_step1(self.physics.model.ptr, self.physics.data.ptr)

    def _observed(self, state: np.ndarray) -> np.ndarray:
        self._go_to(state)
        seen = self.task.get_observation(self.physics)
        return np.concatenate([np.ravel(v) for v in seen.values()], dtype=np.float32)


class Omniscient:
    """Plans in the true simulator, one environment at a time: `see` says where it stands."""

    def __init__(self, trained: Trained, config: MPPIConfig) -> None:
        self.config, self.noise = config, trained.noise
        self.model = Simulator(trained)
        self.critics = trained.system.config.critics
        self.state = torch.zeros(0)

    def see(self, env: DMC) -> None:
        self.state = torch.from_numpy(env._env.physics.get_state())[None]

    def start(self, batch_size: int, seed: int) -> tuple[Tensor, Draws]:
        assert batch_size == 1
        return torch.zeros(self.config.horizon, 1, self.model.env.action_space.shape[0]), Draws.start(1, seed)

    def act(self, observation: Observation, carry: Any, mode: str = "sample") -> tuple[np.ndarray, Any]:
        mean, draws = carry
        mean = mppi.shifted(mean, torch.from_numpy(observation.is_first))
        noise = mppi.noise(self.config, draws, mean.shape[2], self.critics.members, self.critics.drawn)
        plan = mppi.plan(self.config, self.model, self.state, mean, noise, self.noise)
        return plan.action_BA.clamp(-1, 1).numpy(), (plan.mean_HBA, draws)


def play(trained: Trained, agent: Agent | Omniscient, episodes: int, states: list[np.ndarray] | None = None) -> float:
    """The mean return in mode "mode". `states` is given every `EVERY`th state of the physics, but for the last ones."""
    envs = [trained.simulator() for _ in range(episodes)]
    seen = [env.reset(seed=FIRST + k)[0] for k, env in enumerate(envs)]
    carry, previous = agent.start(episodes, 0), np.zeros((episodes, envs[0].action_space.shape[0]), np.float32)
    total = np.zeros(episodes)
    for t in range(envs[0].max_steps):
        if states is not None and t % EVERY == EVERY // 2:
            states += [env._env.physics.get_state() for env in envs]
        if isinstance(agent, Omniscient):
            agent.see(envs[0])
        fields = {"state": np.stack([s["state"] for s in seen])}
        observation = Observation(fields=fields, previous_action=previous, is_first=np.full(episodes, t == 0))
        previous, carry = agent.act(observation, carry, "mode")
        stepped = [env.step(a) for env, a in zip(envs, previous, strict=True)]
        seen = [s[0] for s in stepped]
        total += [s[1] for s in stepped]
    for env in envs:
        env.close()
    return float(total.mean())


def planners(trained: Trained) -> Mapping[str, tuple[MPPIConfig, mppi.Model | None]]:
    own = trained.config
    far = replace(own, discount=GAMMA, bootstrap_noise=False, action="mean")
    near = replace(far, samples=32, policy_samples=31, iterations=1, elites=4)
    cautious = Cautious(trained.system.world, trained.system.policy, trained.system.critics)
    return {
        "MPPI as configured": (own, None),
        "its plans' mean instead of one of the elite": (replace(own, action="mean"), None),
        "no noise at the plan's end": (replace(own, bootstrap_noise=False), None),
        f"A: both, and discount {GAMMA}": (far, None),
        "A, horizon 1": (replace(far, horizon=1), None),
        "A, elite weighed sharply (temperature 10)": (replace(far, temperature=10.0), None),
        "A, the most pessimistic critic": (far, cautious),
        "A, near the policy (31 of 32 sequences its own)": (near, None),
        "A, horizon 1, near the policy": (replace(near, horizon=1), None),
        "A, more search (256 sequences, 6 iterations)": (
            replace(far, samples=256, policy_samples=32, elites=32, iterations=6),
            None,
        ),
    }


def returns(trained: Trained, name: str, episodes: int, true_episodes: int) -> float:
    if name == POLICY:
        return play(trained, trained.system.agent("policy", 10**6), episodes)
    if name == TRUE:
        far = replace(trained.config, discount=GAMMA, bootstrap_noise=False, action="mean")
        agent = Omniscient(trained, far)
        return float(np.mean([play(trained, agent, 1) for _ in range(true_episodes)]))
    return play(trained, trained.planner(*planners(trained)[name]), episodes)


def predicted(config: MPPIConfig, trained: Trained, model: mppi.Model, z_BZ: Tensor, plans_HBNA: Tensor) -> Tensor:
    """What a plan is worth to `model`, (B, N): rewards and the mean of all critics, discounted by gamma."""
    tried = mppi.attempt(replace(config, discount=GAMMA), model, z_BZ, plans_HBNA)
    last = model.act(tried.end_BNZ.flatten(0, 1)).unflatten(0, tried.end_BNZ.shape[:2])
    critics = trained.critics.expand(len(z_BZ), -1)
    return tried.reward_BN + GAMMA ** len(plans_HBNA) * model.value(tried.end_BNZ, last, critics)


def decisions(trained: Trained, states_BZ: Tensor) -> dict[str, np.ndarray]:
    """By state: what the action that MPPI takes is worth more than the policy's, as predicted and in truth."""
    simulator, model, config = Simulator(trained), trained.model, trained.config
    z = simulator.encode(states_BZ)
    draws = Draws.start(len(z), 0)
    counts, (actions,) = trained.system.config.critics, simulator.env.action_space.shape
    noise = mppi.noise(config, draws, actions, counts.members, counts.drawn)
    start = torch.zeros(config.horizon, len(z), actions)
    plan = mppi.plan(config, model, z, start, noise, trained.noise)
    policy = torch.stack(follow(simulator, states_BZ, config.horizon))
    chosen = torch.cat((plan.action_BA[None], plan.mean_HBA[1:]))
    one, own = plan.action_BA.clamp(-1, 1)[None], policy[:1]
    real, of_policy = simulator.returns(states_BZ, one), simulator.returns(states_BZ, own)
    worth = [predicted(config, trained, model, z, a[:, :, None])[:, 0] for a in (chosen, policy, one, own)]
    found = {
        "apart": (one - own)[0].norm(dim=-1),
        "plan": worth[0] - worth[1],
        "first": worth[2] - worth[3],
        "real": real - of_policy,
        "real_more": planned(trained, simulator, states_BZ) - of_policy,
        "value": of_policy,
        "bias": worth[3] - of_policy,
        "error_plan": code_error(trained, simulator, states_BZ, chosen),
        "error_policy": code_error(trained, simulator, states_BZ, policy),
    }
    return {name: x.numpy() for name, x in found.items()}


def planned(trained: Trained, simulator: Simulator, states_BZ: Tensor) -> Tensor:
    """True returns (B,) of some decisions of MPPI, which plans anew for each, and the policy's from there."""
    agent, z = trained.planner(trained.config), states_BZ
    carry, actions, count = agent.start(len(z), 0), list[Tensor](), len(z)
    for t in range(PLANNED):
        fields = {"state": simulator.observe(z).numpy()}
        previous = np.zeros((count, 1), np.float32)  # which it does not look at
        seen = Observation(fields=fields, previous_action=previous, is_first=np.full(count, t == 0))
        action, carry = agent.act(seen, carry, "mode")
        actions.append(torch.from_numpy(action))
        z = simulator.step(z, actions[-1])
    return simulator.returns(states_BZ, torch.stack(actions))


def follow(simulator: Simulator, states_BZ: Tensor, steps: int) -> list[Tensor]:
    """The policy's actions from there, (B, A) each."""
    found = []
    for _ in range(steps):
        found.append(simulator.act(states_BZ))
        states_BZ = simulator.step(states_BZ, found[-1])
    simulator.rewards = []
    return found


def code_error(trained: Trained, simulator: Simulator, states_BZ: Tensor, plans_HBA: Tensor) -> Tensor:
    """Mean squared error (B,) of the expected state at the end of a plan, to the codes of what really comes."""
    z = simulator.encode(states_BZ)
    for a in plans_HBA:
        z, states_BZ = trained.model.step(z, a), simulator.step(states_BZ, a)
    simulator.rewards = []
    return (z - simulator.encode(states_BZ)).square().mean(1)


def ranking(trained: Trained, states_BZ: Tensor, sequences: int) -> dict[str, dict[str, float]]:
    """How well predictions rank sequences of actions from the same state, for random ones and for the policy's with
    noise: Spearman's correlation with the truth; and how far the truth spreads, against how predictions are wrong."""
    simulator, generator = Simulator(trained), torch.Generator().manual_seed(0)
    shape = (trained.config.horizon, len(states_BZ), sequences, simulator.env.action_space.shape[0])
    policy = torch.stack(follow(simulator, states_BZ, shape[0]))[:, :, None]
    near = (policy + trained.noise * torch.randn(shape, generator=generator)).clamp(-1, 1)
    kinds = {"random": torch.rand(shape, generator=generator) * 2 - 1, "near the policy": near}
    found = {}
    for kind, plans in kinds.items():
        flat = plans.flatten(1, 2)
        real = simulator.returns(states_BZ.repeat_interleave(sequences, 0), flat).unflatten(0, shape[1:3])
        z = simulator.encode(states_BZ)
        learnt = predicted(trained.config, trained, trained.model, z, plans)
        true = predicted(trained.config, trained, simulator, states_BZ, plans)
        found[kind] = {
            "spread": float(real.std(1).mean()),
            "wrong": float((learnt - real - (learnt - real).mean(1, keepdim=True)).std(1).mean()),
            "model and critics": rank(learnt, real),
            "simulator and critics": rank(true, real),
            "best of the model": top(learnt, real),
            "best of the simulator": top(true, real),
        }
    return found


def rank(guess_BN: Tensor, real_BN: Tensor) -> float:
    found = [spearmanr(g, r).statistic for g, r in zip(guess_BN.numpy(), real_BN.numpy(), strict=True)]
    return float(np.nanmean(found))


def top(guess_BN: Tensor, real_BN: Tensor) -> float:
    """What the sequence that is predicted to be the best brings more than the mean one, in deviations."""
    best = real_BN.gather(1, guess_BN.argmax(1, keepdim=True))[:, 0]
    return float(((best - real_BN.mean(1)) / real_BN.std(1).clamp_min(1e-6)).mean())


def report_returns(runs: Mapping[str, Trained], episodes: int, true_episodes: int) -> None:
    """A line at a time: all of them take long."""
    table(["return of an episode", *runs, "mean"], [])
    for name in (POLICY, *planners(next(iter(runs.values()))), *([TRUE] if true_episodes else [])):
        values = [returns(trained, name, episodes, true_episodes) for trained in runs.values()]
        print("| " + " | ".join([name, *(f"{v:.0f}" for v in values), f"{np.mean(values):.0f}"]) + " |", flush=True)


def report_decisions(found: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    lines: list[tuple[str, Callable[[Mapping[str, np.ndarray]], str]]] = [
        ("distance of MPPI's action from the policy's", lambda d: f"{d['apart'].mean():.2f}"),
        ("gain over the policy: predicted for the plan", lambda d: interval(d["plan"])),
        ("predicted for its first action, then the policy", lambda d: interval(d["first"])),
        ("**in truth, first action, then the policy**", lambda d: interval(d["real"])),
        (f"in truth, {PLANNED} decisions of MPPI, then the policy", lambda d: interval(d["real_more"])),
        ("states where the first action is better in truth", lambda d: f"{100 * (d['real'] > 0).mean():.0f}%"),
        ("true value of the policy there", lambda d: f"{d['value'].mean():.1f}"),
        ("predicted value of the policy minus true", lambda d: interval(d["bias"])),
        ("error of the codes after the plan", lambda d: f"{d['error_plan'].mean():.3f}"),
        ("error of the codes after the policy's actions", lambda d: f"{d['error_policy'].mean():.3f}"),
    ]
    table(["", *found], [[name, *(cell(d) for d in found.values())] for name, cell in lines])


def report_ranking(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    rows = []
    for kind in ("random", "near the policy"):
        for name in next(iter(found.values()))[kind]:
            rows.append([kind, name, *(f"{f[kind][name]:.2f}" for f in found.values())])
    table(["sequences", "", *found], rows)


def interval(values: np.ndarray) -> str:
    found = t_interval(values)
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", type=Path, nargs="+")
    parser.add_argument("--episodes", type=int, default=5, help="of each planner")
    parser.add_argument("--true-episodes", type=int, default=1, help="of the planner in the simulator, which is slow")
    parser.add_argument("--states", type=int, default=80, help="for decisions; half as many for the ranking")
    parser.add_argument("--sequences", type=int, default=24, help="of each state, for the ranking")
    parser.add_argument("--parts", nargs="+", default=["decisions", "ranking", "returns"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    runs = {str(path): Trained(path) for path in given.run_dirs}  # seeds of different studies have one name
    begun = time.monotonic()
    states = {name: visited(trained, given.states) for name, trained in runs.items()}
    if "decisions" in given.parts:
        report_decisions({name: decisions(trained, states[name]) for name, trained in runs.items()})
        met = {f"{n}, MPPI's states": visited(t, given.states, t.planner(t.config)) for n, t in runs.items()}
        report_decisions({n: decisions(t, z) for (n, z), t in zip(met.items(), runs.values(), strict=True)})
    if "ranking" in given.parts:
        report_ranking({n: ranking(t, states[n][::2], given.sequences) for n, t in runs.items()})
    if "returns" in given.parts:
        report_returns(runs, given.episodes, given.true_episodes)
    print(f"({time.monotonic() - begun:.0f} s)")


def visited(trained: Trained, count: int, agent: Agent | None = None) -> Tensor:
    """States of the physics (B, Z) in three episodes of the agent, of the policy if none is given."""
    states: list[np.ndarray] = []
    play(trained, agent or trained.system.agent("policy", 10**6), 3, states)
    chosen: Sequence[int] = np.linspace(0, len(states) - 1, min(count, len(states))).astype(int).tolist()
    return torch.from_numpy(np.stack([states[k] for k in chosen]))


if __name__ == "__main__":
    main()
