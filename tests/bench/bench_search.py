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
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from search_decisions import PLANNED, decisions, ranking
from search_episodes import POLICY, TRUE, planners, returns, visited
from search_simulator import Trained
from timing import table

from distwm.statistics import t_interval


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


if __name__ == "__main__":
    main()
