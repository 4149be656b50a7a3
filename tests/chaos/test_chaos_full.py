"""Full memory makes room, full disks make everyone wait: neither costs what was acknowledged."""

from __future__ import annotations

from pathlib import Path

from faults_full import full_disk_of_redis, full_disk_of_the_spool, full_memory


def test_full_memory(tmp_path: Path) -> None:
    row = full_memory(tmp_path, seconds=1)
    assert row.safe, row.said()


def test_a_full_disk_under_redis(tmp_path: Path) -> None:
    row = full_disk_of_redis(tmp_path, seconds=2)
    assert row.safe, row.said()


def test_a_full_disk_under_the_spool(tmp_path: Path) -> None:
    row = full_disk_of_the_spool(tmp_path)
    assert row.safe, row.said()
