"""What the figures allow to say, in words. Nothing here claims more than an interval that excludes zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distwm.report.inputs import RunFindings
from distwm.report.numerals import gain_text, number
from distwm.returns import Episodes, differences
from distwm.statistics import Interval, hierarchical_gain, over_seeds, t_interval

Tone = Literal["good", "open", "bad"]
Played = Mapping[tuple[str, str], Episodes]

POLICY, BC, CONTROL = ("policy", "sample"), ("bc", "sample"), ("control", "sample")  # the readout fixed in advance
# What is compared: ours, theirs, and how it is called.
COMPARED = (
    (POLICY, BC, "imagination over behaviour cloning"),
    (("policy", "mode"), ("bc", "mode"), "the same, most likely actions"),
    (CONTROL, BC, "control over behaviour cloning"),
    (POLICY, CONTROL, "imagination over the control"),
    (POLICY, ("behaviour", "sample"), "imagination over the behaviour data"),
    (POLICY, ("random", "sample"), "imagination over random"),
)
WEAK_BAR = 0.8  # behaviour cloning below this share of the behaviour's mean return is a weak bar


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence and whether it speaks for the result."""

    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Verdict:
    """A headline and what a careful reader has to know beside it."""

    headline: str
    tone: Tone
    notes: tuple[Note, ...]


def verdict_of_run(run: RunFindings) -> Verdict:
    """One training seed is called one training seed."""
    gain = _gain(run.played, POLICY, BC)
    gates = gate_notes(run)
    if gain is None:
        stages = run.stages()
        if run.played:
            headline = f"{len(run.played)} policies evaluated; there is no behaviour cloning to compare with."
        else:
            headline = f"Not evaluated yet; the last stage begun is {stages[-1]}." if stages else "Nothing done yet."
        return Verdict(headline, "open", gates)
    single = Note(
        "One training seed: the interval speaks of new episodes of these policies, not of training them again.", "open"
    )
    control = _gain(run.played, CONTROL, BC)
    headline, tone = _headline(gain, control, f"{gain.count} paired episodes")
    notes = (*control_notes(control, _gain(run.played, POLICY, CONTROL)), *bar_notes(run.played), *gates, single)
    return Verdict(headline, tone, notes)


def verdict_of_study(runs: list[RunFindings]) -> Verdict:
    """Over training seeds. The claim reaches further the more intervals exclude zero."""
    evaluated = [run for run in runs if len(differences(run.played, POLICY, BC))]
    if len(evaluated) < 2:
        return Verdict(f"{len(evaluated)} of {len(runs)} training seeds evaluated: too few for a verdict.", "open", ())
    gains = [differences(run.played, POLICY, BC) for run in evaluated]
    pooled, over = hierarchical_gain(gains), over_seeds(gains)
    controls = [d for run in evaluated if len(d := differences(run.played, CONTROL, BC))]
    control = hierarchical_gain(controls) if len(controls) > 1 else None
    counts = f"{len(gains)} training seeds of {_counts(gains)} paired episodes"
    headline, tone = _headline(pooled, control, counts if over.above_zero else f"these {counts}")
    against = [d for run in evaluated if len(d := differences(run.played, POLICY, CONTROL))]
    notes = [_reach(pooled, over, len(gains)), *_missing(len(evaluated), len(runs))]
    notes += control_notes(control, hierarchical_gain(against) if len(against) > 1 else None)
    notes += [
        Note(f"Seed {run.seed}: {note.text}", note.tone)
        for run in evaluated
        for note in (*bar_notes(run.played), *gate_notes(run))
        if note.tone == "bad"
    ]
    return Verdict(headline, tone, tuple(notes))


def control_notes(control: Interval | None, against: Interval | None) -> tuple[Note, ...]:
    """The control is trained like the policy, but with shuffled advantage signs: no gain may come of it."""
    if control is None:
        return (Note("No control with shuffled advantage signs was evaluated.", "open"),)
    if control.above_zero:
        first = Note(f"The control with shuffled advantage signs gains too: {gain_text(control)}.", "bad")
    else:
        first = Note(f"No gain shown by the control with shuffled advantage signs: {gain_text(control)}.", "good")
    if against is None:
        return (first,)
    tone: Tone = "good" if against.above_zero else "bad" if against.below_zero else "open"
    word = {"good": "is above", "bad": "is below", "open": "cannot be told from"}[tone]
    return first, Note(f"Imagination {word} that control: {gain_text(against)}.", tone)


def bar_notes(played: Played) -> tuple[Note, ...]:
    """Whether behaviour cloning is a fair bar: near the mean of the data that it clones."""
    bc, data = played.get(BC), played.get(("behaviour", "sample"))
    if not bc or not data:
        return ()
    cloned, shown = float(np.mean([*bc.values()])), float(np.mean([*data.values()]))
    fair = cloned >= shown - (1 - WEAK_BAR) * abs(shown)
    text = f"behaviour cloning earns {number(cloned)}, the data it clones {number(shown)}"
    return (Note(f"The bar is {'fair' if fair else 'weak'}: {text}.", "good" if fair else "bad"),)


def gate_notes(run: RunFindings) -> tuple[Note, ...]:
    verdicts = [(stage, metric, v) for stage, found in run.gates.items() for metric, v in found.items()]
    missed = [f"{stage} {metric} {number(v['value'])}" for stage, metric, v in verdicts if not v["passed"]]
    if not verdicts:
        return ()
    if not missed:
        return (Note(f"All {len(verdicts)} gates passed.", "good"),)
    return (Note(f"{len(missed)} of {len(verdicts)} gates missed: {', '.join(missed)}.", "bad"),)


def _headline(gain: Interval, control: Interval | None, over: str) -> tuple[str, Tone]:
    figures = f"{gain_text(gain)} over {over}"
    if gain.above_zero and control is not None and control.above_zero:
        return f"Imagination beats behaviour cloning, but so does the control: {figures}", "open"
    if gain.above_zero:
        return f"Imagination beats behaviour cloning: {figures}", "good"
    if gain.below_zero:
        return f"Imagination falls behind behaviour cloning: {figures}", "bad"
    return f"No gain over behaviour cloning shown: {figures}", "open"


def _reach(pooled: Interval, over: Interval, seeds: int) -> Note:
    text = f"t interval over the {seeds} training seeds: {gain_text(over)}"
    if pooled.above_zero and not over.above_zero:
        return Note(f"It holds for these seeds, but is not shown for further ones; {text}.", "open")
    return Note(f"{text[0].upper()}{text[1:]}.", "good" if over.above_zero else "open")


def _missing(evaluated: int, wanted: int) -> list[Note]:
    return [Note(f"Only {evaluated} of {wanted} seeds are evaluated so far.", "bad")] if evaluated < wanted else []


def _counts(gains: list[np.ndarray]) -> str:
    sizes = sorted({len(g) for g in gains})
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _gain(played: Played, ours: tuple[str, str], theirs: tuple[str, str]) -> Interval | None:
    d = differences(played, ours, theirs)
    return t_interval(d) if len(d) else None
