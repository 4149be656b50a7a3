"""The part of a report that is about tokenizers of actions: each picture has its numbers beside it, as JSON."""

from __future__ import annotations

import numpy as np

from distwm.report import page, tokens
from distwm.report.drawn import Draw, save
from distwm.report.inputs import Arrays, RunFindings
from distwm.report.numerals import number
from distwm.report.page import Cell


def cards(run: RunFindings, draw: Draw) -> str:
    """Nothing for a run that trained no tokenizer."""
    shown = _Shown(run, draw)
    all_cards = (shown.hypotheses, shown.layers, shown.rates, shown.phases, shown.codebooks, shown.chunks)
    return "".join(make() for make in all_cards)


class _Shown:
    """Each method is a card, or nothing where the run has left nothing for it."""

    def __init__(self, run: RunFindings, draw: Draw) -> None:
        self._found, self._draw, self._folder = run.tokens, draw, run.root / "report"
        self._settings = run.config.get("analyse", {})

    def hypotheses(self) -> str:
        if not (found := self._found.get("hypotheses")):
            return ""
        save(self._folder, "hypotheses", found)
        share = self._settings.get("confidence")
        percent = f" ({100 * share:g}%)" if share else ""
        text = (
            f"Mean squared error of held-out chunks, normalised, with its bootstrap interval over episodes{percent}. "
            "Validated is only what lies below its gate with the whole interval."
        )
        return page.card("Hypotheses", text, page.table(("", "error", "gate", "verdict"), _claims(found)))

    def layers(self) -> str:
        if not (found := self._found.get("rvq_layers")):
            return ""
        text = "Held-out chunks, coded by the first layers alone. A chunk of float32 is the unit of the ratio."
        bands = self._found.get("bands_layers", {})
        if bands:
            text += " Beside them the bands, with as many tokens as take no more bits."
        numbers = {**found, "bands": bands}
        return page.card("Layers", text, self._draw("layers", tokens.by_layers(found), numbers), _table(found, bands))

    def rates(self) -> str:
        if not (found := self._found.get("rate_distortion")):
            return ""
        text = (
            "Every way of coding the same held-out chunks, fitted to the same training chunks, by the bits that a "
            "chunk takes."
        )
        if words := self._settings.get("peers", {}).get("fast_vocabulary"):
            text += f" With a vocabulary of {words}, a token of FAST takes {(words - 1).bit_length()} bits."
        return page.card("Error by bits", text, self._draw("bits", tokens.by_bits(found), found))

    def phases(self) -> str:
        if not (found := self._found.get("layers_by_phase")):
            return ""
        text = "How many layers a held-out chunk needs until its error is below the gate, by what the robot is at."
        return page.card("Layers by phase", text, self._draw("phases", tokens.by_phase(found), found))

    def codebooks(self) -> str:
        layers, found = self._found.get("rvq_layers"), self._found.get("rvq_usage")
        if not layers or not found:
            return ""
        numbers = {name: layers[name] for name in ("layers", "usage", "perplexity")} | {"counts": found["counts"]}
        text = "Which codes the held-out chunks ask for. A layer that uses few has more codes than it needs."
        return page.card("Codebooks", text, self._draw("codebooks", tokens.usage(layers, found["counts"]), numbers))

    def chunks(self) -> str:
        if not (found := self._found.get("rvq_examples")):
            return ""
        text = "Held-out chunks and what is left of them, in units of the environment."
        drawn = tokens.examples(found["original"], found["reconstructed"])
        return page.card("Original and reconstructed", text, self._draw("trajectories", drawn, found))


def _claims(found: Arrays) -> list[tuple[Cell, ...]]:
    words = {"coarse": "the first layers", "fine": "all layers"}
    tones = {"validated": "good", "refuted": "bad"}
    reasons = found.get("reason", [""] * len(found["names"]))
    return [
        (
            Cell(words.get(str(name), str(name))),
            Cell(number(found["mean"][n]), f"[{number(found['low'][n])}, {number(found['high'][n])}]"),
            Cell(f"below {number(found['gate'][n])}"),
            Cell(str(found["verdict"][n]), str(reasons[n]), tones.get(str(found["verdict"][n]), "")),
        )
        for n, name in enumerate(found["names"])
    ]


def _table(layers: Arrays, bands: Arrays) -> str:
    rows = [
        (
            Cell(str(layers["layers"][n])),
            Cell(number(layers["mse_norm"][n]), f"± {number(layers['std_norm'][n])}"),
            *(Cell(number(layers[f"mse_{part}"][n])) for part in ("raw", "arm", "gripper")),
            Cell(number(layers["r2"][n])),
            Cell(str(int(layers["tokens"][n]))),
            Cell(str(int(layers["bits"][n]))),
            Cell(f"{layers['ratio'][n]:.3g}x"),
            *(_of_bands(bands, int(layers["bits"][n])) if bands else ()),
        )
        for n in range(len(layers["layers"]))
    ]
    headers = ("layers", "error, normalised ± deviation", "raw", "arm", "gripper", "R²", "tokens", "bits", "ratio")
    return page.table((*headers, *(("arm, bands", "gripper, bands") if bands else ())), rows)


def _of_bands(bands: Arrays, bits: int) -> tuple[Cell, Cell]:
    """Errors of the most tokens that take no more bits."""
    fitting = np.flatnonzero(bands["bits"] <= bits)
    if not len(fitting):
        return Cell("–"), Cell("–")
    last = fitting[-1]
    return Cell(number(bands["mse_arm"][last]), f"{bands['bits'][last]} bits"), Cell(number(bands["mse_gripper"][last]))
