"""Addresses take their secrets from the environment of the process, and never show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from replay.config import ReplayConfig
from replay.errors import BadInput, DistwmError
from replay.shards.address import addresses, public, redact
from replay.shards.connection import Connection
from replay.shards.router import Router

SECRET = "p@ss/wo,rd#%$?:&="


def test_a_secret_of_the_environment_may_have_any_characters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("a certificate")
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("WHO", "actor")
    monkeypatch.setenv("HERE", str(tmp_path))
    (url,) = addresses("rediss://$WHO:${SECRET}@host:1/0?ssl_ca_certs=$HERE/ca.crt")
    parsed = parse_url(url)
    assert (parsed["username"], parsed["password"], parsed["host"]) == ("actor", SECRET, "host")
    assert parsed["ssl_ca_certs"] == str(tmp_path / "ca.crt")
    assert redact(url) == "rediss://actor:***@host:1/0"


def test_a_variable_may_be_the_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URLS", "redis://:x@one:1, redis://two:2")
    assert addresses("$URLS,unix:///three") == ["redis://:x@one:1", "redis://two:2", "unix:///three"]
    assert addresses("") == addresses(" , ") == []


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    with pytest.raises(BadInput, match=r"\$ABSENT, which is not set in this process .* Mend: Export ABSENT"):
        Router(ReplayConfig(url="redis://:$ABSENT@host:1"), "r")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:hush@h:1/0?password=hush", "redis://user:***@h:1/0"),
        ("redis://:hush@h:1", "redis://:***@h:1"),
        ("redis://:$NAME@h:1", "redis://:$NAME@h:1"),
        ("redis://:${NAME}hush@h:1", "redis://:***@h:1"),
        ("redis://:hu/sh@h:1", "redis://:***@h:1"),
        ("redis://:hu@sh#?@h:1", "redis://:***@h:1"),
        ("redis://u:hush", "redis://u:***"),
        ("user:hush@h:1", "user:***@h:1"),
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://[::1]:1", "redis://[::1]:1"),
        ("redis://[::1]", "redis://[::1]"),
        ("unix:///a/b:c/s.sock", "unix:///a/b:c/s.sock"),
        ("unix://:hush@/a/s.sock?db=0", "unix://:***@/a/s.sock"),
        ("", ""),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_what_a_run_notes_down() -> None:
    url = "rediss://a:$NAME@h:1?ssl_ca_certs=/ca.crt&ssl_password=hush&db=0&password=hush"
    assert public(url) == "rediss://a:$NAME@h:1?ssl_ca_certs=/ca.crt&db=0"
    assert public("redis://:hush@h:1") == "redis://:***@h:1"


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match=r"ssl_ca_certs=/nowhere/ca\.crt, which cannot be read on"):
        addresses("rediss://h:1?ssl_ca_certs=/nowhere/ca.crt")


@given(st.text(min_size=1).map(lambda s: f"~hush{s}"))
def test_no_password_is_ever_shown(secret: str) -> None:
    url = f"redis://user:{secret}@host:1/0"
    assert "~hush" not in redact(url)
    with pytest.raises(DistwmError) as raised:  # with odd characters it is no address, and else the host is none
        Connection(url.replace("host", "127.0.0.1"), 0.1).call("asking", lambda r: r.ping(), 0.0)
    assert "~hush" not in str(raised.value)
