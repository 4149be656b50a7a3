"""The words of a collection: what they stand for, and what cannot be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from distwm.collect.__main__ import main
from distwm.collect.plan import parse
from replay.errors import BadInput


def test_words() -> None:
    config, orders = parse(
        ["dmc/walker_walk:2", "episodes=5", "dmc/reacher_easy", "counting/5-12:3=ou", "replay.url=a"]
    )
    assert [(o.task, o.policy, o.runners) for o in orders] == [
        ("dmc/walker_walk", "random", 2),
        ("dmc/reacher_easy", "behaviour", 1),
        ("counting/5-12", "ou", 3),
    ]
    assert (config.episodes, config.replay.url, config.runner.streams) == (5, "a", "episode")
    assert orders[2].run("mixed") == "mixed.counting.5-12"


def test_a_suite_stands_for_its_tasks() -> None:
    _, orders = parse(["suite=libero_spatial", "tasks=2,0", "policy=source", "runners=2", "episodes=5"])
    assert [order.key for order in orders] == ["libero/libero_spatial/0=source", "libero/libero_spatial/2=source"]
    assert {order.runners for order in orders} == {2}
    assert len(parse(["suite=libero/libero_90"])[1]) == 90
    with pytest.raises(BadInput, match="libero_goal"):
        parse(["suite=libero_spatal"])
    with pytest.raises(BadInput, match="libero_spatial/1"):
        parse(["suite=libero_spatial", "tasks=12"])


def test_a_collection_with_a_name_is_settings() -> None:
    config, orders = parse(["pi05", "tasks=1", "source.execute_steps=10"])
    assert [order.key for order in orders] == ["libero/libero_spatial/1=source"]
    assert (config.source.kind, config.source.execute_steps, config.runner.starts) == ("openpi", 10, "in_order")
    assert config.out == "runs/pi05-libero_spatial"
    assert parse(["pi05", "suite=libero/libero_90"])[0].out == "runs/pi05-libero_90"
    assert parse(["pi05", "out=elsewhere"])[0].out == "elsewhere"
    with pytest.raises(BadInput, match="pi05"):
        parse(["pi06"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no task"),
        (["counting/5:0", "episodes=1", "out=x"], "0' runners"),
        (["counting/5:two", "episodes=1", "out=x"], "two' runners"),
        (["counting/5=", "episodes=1", "out=x"], "names no policy"),
        (["counting/5", "episodes=1"], "where to"),
        (["counting/5", "out=x"], "how much"),
        (["counting/5", "counting/5:2", "episodes=1", "out=x"], "given twice"),
        (["counting/5", "episodes=1", "out=x", "fleet.runer=2"], "fleet.runners"),
        (["counting/5", "episodes=1", "out=x", "env.task=counting/6"], "not settings here"),
        (["counting/5", "episodes=1", "out=x", "runner.streams=environment"], "runner.streams"),
        (["countin/5", "episodes=1", "out=x"], "'counting'"),
        (["dmc/walker_wlak", "episodes=1", "out=x"], "'walker_walk'"),
        (["counting/5=expert", "episodes=1", "out=x", "env.pixels=false"], "expert"),
        (["counting/5=nobody", "episodes=1", "out=x", "env.pixels=false"], "nobody"),
    ],
)
def test_what_cannot_be_right_is_2_and_starts_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_3_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISTWM_ENVS", str(tmp_path / "none"))
    words = ["counting/5", "libero/libero_object/4", "episodes=1", f"out={tmp_path / 'out'}", "env.pixels=false"]
    assert main(words) == 3
    assert "distwm.envs install libero" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
