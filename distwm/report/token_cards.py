"""The part of a report that is about tokenizers of actions: each picture has its numbers beside it, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from distwm.report import page, tokens
from distwm.report.inputs import Arrays, RunFindings
from distwm.report.numerals import number
from distwm.report.page import Cell
from distwm.rundir import write_atomically

Draw = Callable[[str, Figure | None], str]


def cards(run: RunFindings, draw: Draw) -> str:
    """Nothing for a run that trained no tokenizer."""
    found, folder = run.tokens, run.root / "report"
    body = []
    if layers := found.get("layers"):
        _save(folder, "layers", layers)
        text = "Held-out chunks, coded by the first layers alone. A chunk of float32 is the unit of the ratio."
        body.append(page.card("Layers", text, draw("layers", tokens.by_layers(layers)), _table(layers)))
    if layers and (usage := found.get("usage")):
        _save(folder, "codebooks", {name: layers[name] for name in ("layers", "usage", "perplexity")})
        text = "Which codes the held-out chunks ask for. A layer that uses few has more codes than it needs."
        body.append(page.card("Codebooks", text, draw("codebooks", tokens.usage(layers, usage["counts"]))))
    if shown := found.get("examples"):
        text = "Held-out chunks and what is left of them, in units of the environment."
        drawn = tokens.examples(shown["original"], shown["reconstructed"])
        body.append(page.card("Original and reconstructed", text, draw("trajectories", drawn)))
    return "".join(body)


def _table(layers: Arrays) -> str:
    rows = [
        (
            Cell(str(layers["layers"][n])),
            Cell(number(layers["mse_norm"][n]), f"± {number(layers['std_norm'][n])}"),
            *(Cell(number(layers[f"mse_{part}"][n])) for part in ("raw", "arm", "gripper")),
            Cell(number(layers["r2"][n])),
            Cell(str(int(layers["tokens"][n]))),
            Cell(str(int(layers["bits"][n]))),
            Cell(f"{layers['ratio'][n]:.3g}x"),
        )
        for n in range(len(layers["layers"]))
    ]
    headers = ("layers", "error, normalised ± deviation", "raw", "arm", "gripper", "R²", "tokens", "bits", "ratio")
    return page.table(headers, rows)


def _save(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    plain = {key: np.asarray(value).tolist() for key, value in arrays.items()}
    write_atomically(folder / f"{name}.json", json.dumps(plain, indent=1) + "\n")
