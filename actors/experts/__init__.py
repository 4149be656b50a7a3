"""Controllers that see the simulator's state, as pure functions: state (..., S) -> action (..., A) in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from actors.envs.registry import unknown
from actors.experts import cartpole, libero, pendulum, point_mass, reacher, robosuite

Expert = Callable[[np.ndarray], np.ndarray]

EXPERTS: Mapping[str, Expert] = {
    "dmc/cartpole_balance": cartpole.balance,
    "dmc/cartpole_balance_sparse": cartpole.balance,
    "dmc/cartpole_swingup": cartpole.swingup,
    "dmc/cartpole_swingup_sparse": cartpole.swingup,
    "dmc/pendulum_swingup": pendulum.swingup,
    "dmc/point_mass_easy": point_mass.easy,
    "dmc/reacher_easy": reacher.reach,
    "dmc/reacher_hard": reacher.reach,
    **{f"libero/{task}": place for task, place in libero.TASKS.items()},
    "tabletop/pick_place": libero.BOX,
    "robosuite/Lift": robosuite.lift,
    "robosuite/Stack": robosuite.stack,
}


def expert(task: str) -> Expert:
    """The controller of a task. Raises BadInput, naming the nearest task that has one."""
    task = task.partition("@")[0]  # variants ask for the same thing
    if task not in EXPERTS:
        raise unknown("expert", task, EXPERTS, hint="Or collect with the policy `random` or `ou`.")
    return EXPERTS[task]
