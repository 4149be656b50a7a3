"""What the figures allow to say, in words. Nothing here claims more than an interval that excludes zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distwm.contest import Contest, Player
from distwm.report.inputs import Arrays, RunFindings
from distwm.report.labels import label_of
from distwm.report.numerals import gain_text, number
from distwm.returns import Episodes, differences
from distwm.statistics import Interval, hierarchical_gain, over_seeds, t_interval

Tone = Literal["good", "open", "bad"]
Played = Mapping[Player, Episodes]

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
    if claims := run.tokens.get("hypotheses"):
        return _verdict_of_tokens(run, claims)
    contest = run.contest
    gain = _gain(run.played, contest.subject, contest.reference)
    gates = gate_notes(run)
    if gain is None:
        stages = run.stages()
        if run.played:
            headline = (
                f"{len(run.played)} policies evaluated; there is no {label_of(*contest.reference)} to compare with."
            )
        else:
            headline = f"Not evaluated yet; the last stage begun is {stages[-1]}." if stages else "Nothing done yet."
        return Verdict(headline, "open", gates)
    single = Note(
        "One training seed: the interval speaks of new episodes of these policies, not of training them again.", "open"
    )
    control, against = _controls(run)
    headline, tone = _headline(contest, gain, control, f"{gain.count} paired episodes")
    notes = (*control_notes(contest, control, against), *bar_notes(contest, run.played), *gates, single)
    return Verdict(headline, tone, notes)


def _verdict_of_tokens(run: RunFindings, claims: Arrays) -> Verdict:
    """Of a run about a tokenizer of actions: "validated" is only what its interval allows."""
    words = {"coarse": "The first layers", "fine": "all layers"}
    said = [
        f"{words.get(str(name), str(name))}: error {number(mean)}, {verdict} (below {number(gate)})"
        for name, mean, gate, verdict in zip(*(claims[k] for k in ("names", "mean", "gate", "verdict")), strict=True)
    ]
    verdicts = {str(verdict) for verdict in claims["verdict"]}
    tone: Tone = "good" if verdicts == {"validated"} else "bad" if "refuted" in verdicts else "open"
    notes = [Note(f"The actions: {run.provenance}.", "open")] if run.provenance else []
    reasons = dict.fromkeys(str(reason) for reason in claims.get("reason", ()) if str(reason))
    notes += [Note(f"Nothing can be shown yet: {reason}.", "open") for reason in reasons]
    if run.solved:
        shares = ", ".join(f"{label_of(*player)} {np.mean(wins):.0%}" for player, wins in run.solved.items())
        notes.append(Note(f"A low error is not success: executed, episodes were solved by {shares}.", "open"))
    return Verdict("; ".join(said) + ".", tone, (*notes, *gate_notes(run)))


def verdict_of_study(runs: list[RunFindings]) -> Verdict:
    """Over training seeds. The claim reaches further the more intervals exclude zero."""
    contest = runs[0].contest
    evaluated = [run for run in runs if len(differences(run.played, contest.subject, contest.reference))]
    if len(evaluated) < 2:
        return Verdict(f"{len(evaluated)} of {len(runs)} training seeds evaluated: too few for a verdict.", "open", ())
    gains = [differences(run.played, contest.subject, contest.reference) for run in evaluated]
    pooled, over = hierarchical_gain(gains), over_seeds(gains)
    control, against = (_over_runs(evaluated, *pair) for pair in _control_pairs(contest))
    counts = f"{len(gains)} training seeds of {_counts(gains)} paired episodes"
    headline, tone = _headline(contest, pooled, control, counts if over.above_zero else f"these {counts}")
    notes = [_reach(pooled, over, len(gains)), *_missing(len(evaluated), len(runs))]
    notes += control_notes(contest, control, against)
    notes += [
        Note(f"Seed {run.seed}: {note.text}", note.tone)
        for run in evaluated
        for note in (*bar_notes(contest, run.played), *gate_notes(run))
        if note.tone == "bad"
    ]
    return Verdict(headline, tone, tuple(notes))


def control_notes(contest: Contest, control: Interval | None, against: Interval | None) -> tuple[Note, ...]:
    """The control is trained like the subject, but with shuffled advantage signs: no gain may come of it."""
    if contest.control is None:
        return ()
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
    return first, Note(f"The {label_of(*contest.subject)} {word} that control: {gain_text(against)}.", tone)


def bar_notes(contest: Contest, played: Played) -> tuple[Note, ...]:
    """Whether behaviour cloning is a fair bar: near the mean of the data that it clones."""
    bc, data = played.get(contest.reference), played.get(contest.data)
    if contest.reference[0] != "bc" or not bc or not data:
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


def _headline(contest: Contest, gain: Interval, control: Interval | None, over: str) -> tuple[str, Tone]:
    figures = f"{gain_text(gain)} over {over}"
    ours, theirs = label_of(*contest.subject), label_of(*contest.reference)
    if gain.above_zero and control is not None and control.above_zero:
        return f"The {ours} beats {theirs}, but so does the control: {figures}", "open"
    if gain.above_zero:
        return f"The {ours} beats {theirs}: {figures}", "good"
    if gain.below_zero:
        return f"The {ours} falls behind {theirs}: {figures}", "bad"
    return f"No gain over {theirs} shown: {figures}", "open"


def _controls(run: RunFindings) -> list[Interval | None]:
    """The control over the reference, and the subject over the control."""
    return [_gain(run.played, *pair) for pair in _control_pairs(run.contest)]


def _control_pairs(contest: Contest) -> list[tuple[Player, Player]]:
    control = contest.control or ("", "")
    return [(control, contest.reference), (contest.subject, control)]


def _over_runs(runs: list[RunFindings], ours: Player, theirs: Player) -> Interval | None:
    found = [d for run in runs if len(d := differences(run.played, ours, theirs))]
    return hierarchical_gain(found) if len(found) > 1 else None


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


def _gain(played: Played, ours: Player, theirs: Player) -> Interval | None:
    d = differences(played, ours, theirs)
    return t_interval(d) if len(d) else None
