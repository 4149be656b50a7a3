"""Pieces of HTML. What comes in as text is escaped here; pieces are joined as they are."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from distwm.report.style import CSS
from distwm.report.verdict import Verdict

TYPES = {".mp4": "video/mp4", ".gif": "image/gif", ".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its text, something quieter after it, and how it is meant ("good", "bad" or "")."""

    text: str
    quiet: str = ""
    tone: str = ""
    link: str = ""


def page(title: str, kicker: str, verdict: Verdict, body: Iterable[str]) -> str:
    """A whole document. `kicker` is the small line above the headline."""
    notes = "".join(f'<li class="{note.tone}">{escape(note.text)}</li>' for note in verdict.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<div class="kicker">{escape(kicker)}</div>
<h1 class="{verdict.tone}">{escape(verdict.headline)}</h1>
<ul class="notes">{notes}</ul>
{"".join(body)}
</main>
</body>
</html>
"""


def card(title: str, text: str, *pieces: str) -> str:
    """A titled box; nothing if there is nothing to put into it."""
    content = "".join(pieces)
    lead = f'<p class="caption">{escape(text)}</p>' if text else ""
    return f'<section class="card"><h2>{escape(title)}</h2>{lead}{content}</section>' if content else ""


def pair(left: str, right: str) -> str:
    """Two cards beside each other, or the one that is there."""
    return f'<div class="pair">{left}{right}</div>' if left and right else left + right


def tiles(figures: Sequence[tuple[str, str]]) -> str:
    """Key figures: (value, what it is)."""
    boxes = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in figures)
    return f'<div class="tiles">{"".join(boxes)}</div>' if figures else ""


def picture(svg: bytes | None, alt: str) -> str:
    return f'<figure><img alt="{escape(alt)}" src="{_data(".svg", svg)}"></figure>' if svg else ""


def film(path: Path, caption: str = "") -> str:
    """A video that plays by itself, again and again; a click stops it."""
    source, below = _data(path.suffix, path.read_bytes()), escape(caption)
    shown = f'<img alt="{below}" src="{source}">'
    if path.suffix == ".mp4":
        click = "this.paused ? this.play() : this.pause()"
        shown = f'<video src="{source}" autoplay loop muted playsinline onclick="{click}"></video>'
    return f"<figure>{shown}{f'<figcaption>{below}</figcaption>' if below else ''}</figure>"


def films(pieces: Sequence[str]) -> str:
    return f'<div class="films">{"".join(pieces)}</div>' if pieces else ""


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in headers)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def details(summary: str, *pieces: str) -> str:
    """Folded away until asked for."""
    content = "".join(pieces)
    return f"<details><summary>{escape(summary)}</summary>{content}</details>" if content else ""


def code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>" if text else ""


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.link:
        text = f'<a href="{escape(cell.link)}">{text}</a>'
    quiet = f" <small>{escape(cell.quiet)}</small>" if cell.quiet else ""
    return f'<td class="{cell.tone}">{text}{quiet}</td>'


def _data(suffix: str, content: bytes) -> str:
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(content).decode()}"
