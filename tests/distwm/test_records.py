"""Whose actions a run learns from is known without its action source: that may be gone when training ends."""

from __future__ import annotations

from pathlib import Path

from distwm.config import RunConfig, load
from distwm.preflight import check_machine
from distwm.records import NOTES, note_provenance, noted_provenance, provenance_of

PICKING = {"size": "tiny", "env.task": "tabletop/pick_place"}


def served(url: str) -> RunConfig:
    return load("rvq", {**PICKING, "source.kind": "openpi", "source.url": url})


def test_what_the_source_says_is_noted_when_it_is_tried(tmp_path: Path) -> None:
    said = check_machine(load("rvq", {**PICKING, "source.kind": "scripted"}))
    assert "scripted expert" in said
    for _ in range(2):
        note_provenance(tmp_path, said)
    assert (tmp_path / NOTES).read_text() == f"{said}\n"
    assert provenance_of(served("ws://127.0.0.1:1"), tmp_path) == said
    assert noted_provenance(tmp_path, "r") == said


def test_another_source_is_added(tmp_path: Path) -> None:
    for said in ("one", "", "two\nlines", "one", "two\nlines"):
        note_provenance(tmp_path, said)
    assert provenance_of(served("ws://127.0.0.1:1"), tmp_path) == "one; two lines"


def test_a_source_that_is_gone_is_named_by_its_settings(tmp_path: Path) -> None:
    said = provenance_of(served("ws://127.0.0.1:1"), tmp_path)
    assert "openpi at ws://127.0.0.1:1" in said
    assert "not asked" in said
    assert "policies of this run" in provenance_of(load("rvq", {**PICKING, "source.kind": ""}), tmp_path)
