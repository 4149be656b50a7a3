"""`--help-config`: every setting with its type, its value and the comment beside its declaration."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import IO, Any

from rich.console import Console
from rich.table import Column, Table

from distwm.casting import as_text, type_name
from distwm.config import RunConfig, redacted
from distwm.overrides import walk


def print_settings(config: RunConfig, stream: IO[str]) -> None:
    """A table of the settings as `config` resolves them: recipe and size included."""
    print_table(redacted(config), f"{config.recipe}, size={config.size}", stream)


def print_table(config: Any, title: str, stream: IO[str]) -> None:
    """Every leaf of a tree of dataclasses."""
    narrow = (Column(name, max_width=22, overflow="fold") for name in ("type", "value"))  # the meaning has the rest
    table = Table(Column("key", no_wrap=True), *narrow, "meaning", title=title)
    for leaf in walk(config):
        table.add_row(leaf.key, type_name(leaf.hint), as_text(leaf.value), _comments(leaf.owner).get(leaf.field, ""))
    terminal = Console(file=stream, highlight=False, markup=False)
    terminal.width = max(terminal.width, 160)
    terminal.print(table)


@cache
def _comments(owner: type) -> dict[str, str]:
    """Comment by field: that at the end of the declaration's line."""
    source = textwrap.dedent(inspect.getsource(owner))
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    fields = [node for node in body.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {node.target.id: _comment(lines[(node.end_lineno or 1) - 1], node) for node in fields}  # type: ignore[union-attr]


def _comment(line: str, node: ast.AnnAssign) -> str:
    return line.encode()[node.end_col_offset :].decode().strip().removeprefix("#").strip()
