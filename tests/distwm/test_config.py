"""Presets, sizes and overrides come together in one configuration; every setting can be given in three ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distwm import presets
from distwm.casting import as_text, cast
from distwm.config import RunConfig, dump, load, load_saved, parse_overrides, public_leaves
from distwm.overrides import Leaf, apply, flatten, leaves, walk
from replay.errors import BadInput

SIZES = sorted(path.stem.removeprefix("dreamer4_") for path in (presets.CONFIGS / "size").glob("dreamer4_*.yaml"))


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load("dreamer4", {})


def another(leaf: Leaf) -> Any:
    """A value of the leaf's type that is not its own."""
    candidates: tuple[Any, ...] = (
        True,
        False,
        7,
        0.5,
        (0.25, 0.5),
        (3,),
        "text",
        ("text",),
        "strict",
        "bf16",
        "evaluate",
    )
    for value in candidates:
        try:
            if cast(leaf.hint, value) != leaf.value:
                return cast(leaf.hint, value)
        except ValueError:
            continue
    return leaf.value


def test_every_setting_by_command_line_yaml_and_tune(config: RunConfig, tmp_path: Path) -> None:
    checked = 0
    for leaf in walk(config):
        value = another(leaf)
        try:
            by_tune = apply(config, {leaf.key: value})
        except BadInput:  # the value does not fit the other settings
            continue
        by_line = apply(config, parse_overrides([f"{leaf.key}={as_text(value)}"]))
        path = tmp_path / "one.yaml"
        path.write_text(presets.write({leaf.key: value}))
        by_yaml = apply(config, flatten(presets.read(path)))
        assert by_tune == by_line == by_yaml, leaf.key
        assert leaves(by_tune)[leaf.key] == value
        checked += 1
    assert checked > 0.8 * len(leaves(config))


@pytest.mark.parametrize("size", SIZES)
def test_a_saved_configuration_is_the_same_again(size: str, tmp_path: Path) -> None:
    config = load("dreamer4", {"size": size, "tokenizer.lr": "1e-5", "rounds": "2"})
    assert config.size == size
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    assert load_saved(path) == config


def test_the_later_source_wins(tmp_path: Path) -> None:
    (tmp_path / "size").mkdir()
    (tmp_path / "r.yaml").write_text(
        "algorithm: dreamer4\nseed: 1\nrounds: 2\ngates: off\nstages: {a: {budget_steps: 5}}\n"
    )
    (tmp_path / "size" / "r_cpu.yaml").write_text("rounds: 3\nstages.a.slice_steps: 2\ncheckpoint_every_s: 3e1\n")
    config = load(str(tmp_path / "r.yaml"), {"checkpoint_every_s": "7"})
    assert (config.seed, config.rounds, config.gates, config.checkpoint_every_s) == (1, 3, "off", 7.0)
    assert (config.stages["a"].budget_steps, config.stages["a"].slice_steps) == (5, 2)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x\n",  # an alias
        "seed: 1\nseed: 2\n",
        "- 1\n",
        "seed: [1\n",
        "!!python/object/apply:os.getcwd []\n",
        "stages: {a: {}}\nsurprise: 1\n",
        "stages: {a: {gate: {r2: '0.9'}}}\n",
    ],
)
def test_bad_presets(tmp_path: Path, text: str) -> None:
    (tmp_path / "size").mkdir()
    (tmp_path / "size" / "r_cpu.yaml").write_text("")
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(BadInput):
        load(str(tmp_path / "r.yaml"), {"algorithm": "dreamer4"})


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"seed: \xff\n")
    with pytest.raises(BadInput, match="cannot be read"):
        load(str(tmp_path / "r.yaml"), {})


def test_a_password_is_not_shown() -> None:
    url = "redis://user:hush@one:1,rediss://:hush@two:2/0"
    config = load("dreamer4", {"replay.url": url})
    assert config.replay.url == url
    assert "hush" not in dump(config)
    assert "one:1" in public_leaves(config)["replay.url"]


def test_wrong_values_of_whole_parts(config: RunConfig) -> None:
    for key, value in {
        "rounds": "0",
        "seed": "-1",
        "evaluate.policies": "bc:fast",
        "stages.agent.slice_steps": "0",
    }.items():
        with pytest.raises(BadInput):
            apply(config, {key: value})


def test_short_names_stand_for_their_keys() -> None:
    words = ["env=dmc/cartpole_balance", "stages=learn", "data=DIR"]
    assert parse_overrides(words) == {"env.task": "dmc/cartpole_balance", "only": "learn", "replay.mixture": "DIR=1.0"}
    with pytest.raises(BadInput, match=r"env\.task is given twice"):
        parse_overrides(["env=a", "env.task=b"])
