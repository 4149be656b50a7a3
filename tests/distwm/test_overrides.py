"""The grammar of settings: strict types, no lossy cast, unknown keys with the nearest valid one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distwm.casting import as_text, cast
from distwm.overrides import apply, flatten, leaves, nest
from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    optim: Optim = field(default_factory=Optim, metadata={"flatten": True})
    layers: int = 4
    name: str = "vit"
    mode: Literal["mean", "off"] = "mean"
    clip: float | None = None
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError("a net has layers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    seed: int = 0
    fast: bool = False
    tokenizer: Net = field(default_factory=Net)
    stages: Mapping[str, Optim] = field(default_factory=lambda: {"one": Optim(), "two": Optim(lr=2.0)})
    gate: Mapping[str, str] = field(default_factory=dict)


def test_leaves_have_flat_keys() -> None:
    assert leaves(Root()) == {
        "seed": 0,
        "fast": False,
        "tokenizer.lr": 1e-3,
        "tokenizer.betas": (0.9, 0.99),
        "tokenizer.layers": 4,
        "tokenizer.name": "vit",
        "tokenizer.mode": "mean",
        "tokenizer.clip": None,
        "tokenizer.sizes": (),
        "stages.one.lr": 1e-3,
        "stages.one.betas": (0.9, 0.99),
        "stages.two.lr": 2.0,
        "stages.two.betas": (0.9, 0.99),
    }


CHANGED = {
    "seed": 3,
    "fast": True,
    "tokenizer.lr": 3e-4,
    "tokenizer.betas": (0.5, 0.25),
    "tokenizer.layers": 2,
    "tokenizer.name": "off",
    "tokenizer.mode": "off",
    "tokenizer.clip": 0.1,
    "tokenizer.sizes": (1, 2),
    "stages.two.lr": 1e-5,
    "gate.r2": ">=0.95",
}


def test_text_and_values_mean_the_same() -> None:
    by_value = apply(Root(), CHANGED)
    by_text = apply(Root(), {key: as_text(value) for key, value in CHANGED.items()})
    assert by_value == by_text
    assert {key: leaves(by_value)[key] for key in CHANGED} == CHANGED


def test_flatten_and_nest_are_inverse() -> None:
    flat = leaves(Root())
    assert flatten(nest(flat)) == flat


@pytest.mark.parametrize(
    ("key", "near"),
    [("tokenizer.lrr", "tokenizer.lr"), ("lr", "tokenizer.lr"), ("sed", "seed"), ("stages.three.lr", "stages.one.lr")],
)
def test_unknown_key_names_the_nearest(key: str, near: str) -> None:
    with pytest.raises(BadInput, match=near.replace(".", r"\.")):
        apply(Root(), {key: "1"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "1.5"),
        ("seed", "x"),
        ("seed", True),
        ("seed", 1.5),
        ("seed", "inf"),
        ("seed", float("inf")),
        ("seed", None),
        ("fast", "1"),
        ("fast", 1),
        ("tokenizer.lr", "nan"),
        ("tokenizer.lr", "fast"),
        ("tokenizer.lr", True),
        ("tokenizer.lr", 2**60 + 1),  # has no exact float
        ("tokenizer.name", 3),
        ("tokenizer.mode", "of"),
        ("tokenizer.betas", "0.5"),
        ("tokenizer.sizes", "1,x"),
        ("tokenizer.sizes", 3),
        ("tokenizer.layers", 0),  # __post_init__ refuses it
        ("tokenizer", "vit"),
    ],
)
def test_wrong_values_are_refused(key: str, value: object) -> None:
    with pytest.raises(BadInput, match=key.split(".")[0]):
        apply(Root(), {key: value})


def test_exact_casts_are_allowed() -> None:
    changed = apply(Root(), {"seed": "1e3", "tokenizer.lr": 1, "tokenizer.layers": np.int64(7), "tokenizer.sizes": [4]})
    assert (changed.seed, changed.tokenizer.optim.lr, changed.tokenizer.layers) == (1000, 1.0, 7)
    assert changed.tokenizer.sizes == (4,)


def test_two_fields_of_one_key_are_a_mistake_of_ours() -> None:
    @dataclass(frozen=True)
    class Twice:
        lr: float = 0.0
        optim: Optim = field(default_factory=Optim, metadata={"flatten": True})

    with pytest.raises(ValueError, match="two settings are named 'lr'"):
        leaves(Twice())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_text(value: float) -> None:
    assert cast(float, as_text(value)) == value


@given(st.lists(st.tuples(st.integers(), st.booleans()), max_size=4).map(tuple))
def test_nested_tuples_survive_text(value: tuple[tuple[int, bool], ...]) -> None:
    assert cast(tuple[tuple[int, bool], ...], as_text(value)) == value
