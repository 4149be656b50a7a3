"""How far an episode of MineRL has come: the technology tree, and whether the task is solved. Plain Python 3.8."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The technology tree up to a diamond, each after what it is made with.
MILESTONES = (
    *("log", "planks", "stick", "crafting_table", "wooden_pickaxe", "cobblestone", "stone_pickaxe", "furnace"),
    *("coal", "torch", "iron_ore", "iron_ingot", "iron_pickaxe", "diamond"),
)
NEVER = float("inf")


class Goal(NamedTuple):
    """Any of these is success. The game may not tell the inventory at the end of an episode, so rewards count too."""

    item: str = ""
    held: int = 1  # of the item
    last: float = NEVER  # least reward of a step that ends the episode
    total: float = NEVER  # least sum of rewards


GOALS: Mapping[str, Goal] = {
    "Treechop": Goal("log", 64, total=64.0),
    "Navigate": Goal(last=50.0),  # the block gives 100; what dense rewards may take away in a step is less than a few
    "ObtainDiamond": Goal("diamond", last=1024.0),
    "ObtainIronPickaxe": Goal("iron_pickaxe", last=256.0),
}


def goal_of(task: str) -> Goal:
    return next(goal for name, goal in GOALS.items() if task.startswith(name))


def watched(task: str) -> Sequence[str]:
    """The items whose number the game is to tell after each step."""
    return MILESTONES if task.startswith("Obtain") else [item for item in (goal_of(task).item,) if item]


class Progress:
    """Of one episode."""

    def __init__(self, task: str) -> None:
        self._goal, self._total = goal_of(task), 0.0
        self.success = False
        self.milestones = dict.fromkeys(watched(task), False)

    def see(self, inventory: Mapping[str, int], reward: float, done: bool) -> None:
        """After a step; `inventory` has the items that the game told, perhaps none."""
        for item, held in self.milestones.items():
            self.milestones[item] = held or int(inventory.get(item, 0)) > 0
        self._total += reward
        goal = self._goal
        solved = (
            (bool(goal.item) and int(inventory.get(goal.item, 0)) >= goal.held)
            or (done and reward >= goal.last)
            or self._total >= goal.total
        )
        self.success = self.success or solved
        if solved and goal.item:
            self.milestones[goal.item] = True
