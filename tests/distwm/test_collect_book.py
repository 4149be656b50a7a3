"""The ledger of a collection, and what it does not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from collect_kit import COUNTING, SETTINGS, SMALL, begin, ledger, opened, played

from distwm.collect.book import Book, Played
from distwm.collect.plan import parse
from distwm.collect.resume import Shelf
from distwm.collect.show import success_share
from distwm.collect.tryout import try_all
from replay.errors import BadInput
from replay.shards.server import EmbeddedRedis
from replay.shards.stock import take_stock
from replay.shards.survey import Surveyor


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    folder.mkdir()
    return folder


@pytest.fixture
def url(out: Path) -> Iterator[str]:
    server = EmbeddedRedis(out / "replay", 2**24)
    yield server.start()
    server.stop()


def test_a_ledger_is_read_back_without_the_line_that_was_cut_off(out: Path) -> None:
    book = opened(out, SETTINGS)
    book.add(COUNTING, map(played, (0, 1, 3, 1)))
    book.save(12.0)
    book.close()
    with (out / "episodes.jsonl").open("a") as file:
        file.write('{"order": "counting/5-12=ran')
    book = opened(out, SETTINGS)
    assert (book.name, book.seconds) == ("mixed", 12.0)
    assert book.played[COUNTING.key] == {n: played(n) for n in (0, 1, 3)}
    book.add(COUNTING, [played(4)])
    book.forget(COUNTING, [1])
    book.close()
    assert [p.number for _, p in ledger(out)] == [0, 3, 4]


def test_other_settings_are_another_collection(out: Path) -> None:
    opened(out, SETTINGS).close()
    opened(out, parse(["episodes=9", "stop_s=1", "fleet.max_retries=1", *SMALL])[0]).close()
    with pytest.raises(BadInput, match=r"env\.action_repeat"):
        opened(out, parse(["episodes=8", "env.action_repeat=2", *SMALL])[0])
    (out / "config.yaml").touch()
    with pytest.raises(BadInput, match="training run"):
        opened(out, SETTINGS)


def test_a_server_may_move(out: Path) -> None:
    words = ["episodes=8", *SMALL, "source.kind=openpi"]
    opened(out, parse([*words, "source.url=ws://a:1"])[0]).close()
    transport = ["url=ws://b:2", "first_timeout_s=900", "timeout_s=9", "connect_timeout_s=9", "retries=9"]
    transport += ["connections=9", "api_key_env=KEY", "keepalive_s=0"]
    opened(out, parse([*words, *(f"source.{word}" for word in transport)])[0]).close()
    for changed in ("source.execute_steps=2", "source.horizon=20"):
        with pytest.raises(BadInput, match=changed.partition("=")[0]):
            Book(out, parse([*words, changed])[0])
    with pytest.raises(BadInput, match=r"source\.kind"):
        Book(out, parse([*words[:-1], "source.kind=recorded"])[0])


def test_what_moved_sources_say_is_kept(out: Path) -> None:
    book, tried = opened(out, SETTINGS), try_all(SETTINGS, [COUNTING])[COUNTING.key]
    moved = replace(COUNTING, policy="source")
    for said in ("served at a; it does not say what", "served at b", "served at a; it does not say what"):
        book.enter(moved, replace(tried, provenance=said))
    book.save(0.0)
    book.close()
    said = json.loads((out / "collect.json").read_text())["orders"][moved.key]["source"]
    assert said == "served at a; it does not say what; and served at b"


def test_the_replay_knows_better_than_the_ledger(out: Path, url: str) -> None:
    begin(url, SETTINGS, whole=(0, 2, 5), partial=(1, 6))
    begin(url, SETTINGS, whole=(), partial=(5,))
    book = opened(out, SETTINGS)
    book.add(COUNTING, [replace(played(0), steps=10), played(3), played(4)])
    said = Shelf(replace(SETTINGS.replay, url=url), "mixed", {}).reconcile(book, COUNTING)
    assert "2 episodes are in the replay" in said
    assert "2 episodes are gone" in said
    assert {n: (p.steps, p.total_reward) for n, p in book.played[COUNTING.key].items()} == {
        0: (10, 1.5),
        2: (10, 18.0),
        5: (10, 45.0),
    }
    book.close()
    assert {p.number for _, p in ledger(out)} == {0, 2, 5}
    shelf = Shelf(replace(SETTINGS.replay, url=url), "mixed", {COUNTING.key: True})
    whole = shelf.whole(COUNTING, (1, 2, 3), 0.0)
    assert [(number, one.success) for number, one in whole.items()] == [(2, False)]  # it did not terminate


def test_what_made_room_for_others_is_not_played_again(out: Path, url: str) -> None:
    begin(url, SETTINGS, whole=(0, 1, 2))
    book = opened(out, SETTINGS)
    shelf = Shelf(replace(SETTINGS.replay, url=url), "mixed", {})
    shelf.reconcile(book, COUNTING)
    shard = Surveyor(url, COUNTING.run("mixed"), 2.0, 2.0)
    shard.evict(1)
    shard.close()
    assert shelf.reconcile(book, COUNTING) == ""
    assert book.played[COUNTING.key].keys() == {0, 1, 2}
    book.close()


def test_an_episode_that_is_there_twice_is_seen(url: str) -> None:
    begin(url, SETTINGS, whole=(0, 1))
    begin(url, SETTINGS, whole=(1,), partial=(0,))
    shard = Surveyor(url, COUNTING.run("mixed"), 2.0, 2.0)
    assert take_stock([shard], {}).doubled == ["random/1"]
    shard.close()


def test_the_table_says_of_how_many_episodes_success_is_known() -> None:
    known = [Played(number=n, steps=5, total_reward=1.0, success=n > 0) for n in range(4)]
    assert success_share(known) == "75% (30%-95%)"
    assert success_share([*known, Played(number=4, steps=5, total_reward=1.0)]) == "75% (30%-95%) of 4"
    assert success_share([Played(number=4, steps=5, total_reward=1.0)]) == ""
