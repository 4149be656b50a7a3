"""The report of one run: report/index.html with everything inside, and its figures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from distwm.report import codes, curves, figures, page, pictures, success, token_cards
from distwm.report.canvas import style
from distwm.report.command import command_of
from distwm.report.drawn import Draw, draw
from distwm.report.inputs import RunFindings, read_run
from distwm.report.labels import describe, label_of, name_of
from distwm.report.numerals import chance, duration, mean_and_ends, number
from distwm.report.page import Cell
from distwm.report.verdict import verdict_of_run
from distwm.returns import Row, differences, returns_table
from distwm.rundir import write_atomically
from distwm.statistics import Interval, bootstrap_interval, sign_flip_p, t_interval, wilson_interval
from distwm.videos import write_video

LARGEST_FILM_BYTES = 8 * 2**20  # a page that carries more than this in one video is no pleasure
DREAM_FPS = 5


def write_report(run_dir: Path, baselines: Sequence[Path] = ()) -> Path:
    """Reads what the run has left and writes report/index.html, report/*.png and report/*.json; returns the path of
    the page.

    `baselines` are directories that `python -m distwm.baselines` has written; their learning curves are drawn beside.
    Raises BadInput if `run_dir` is not a run's, or a baseline none.
    """
    run, peers = (
        read_run(run_dir),
        [line for path in baselines for line in curves.lines_over(curves.read_baseline(path))],
    )
    folder = run_dir / "report"
    folder.mkdir(exist_ok=True)
    with style():
        text = _page(run, peers, partial(draw, folder))
    write_atomically(folder / "index.html", text)
    return folder / "index.html"


def _page(run: RunFindings, peers: list[curves.Line], draw: Draw) -> str:
    rows = returns_table(run.played, run.contest.reference)
    body = [
        page.tiles(_tiles(run, rows)),
        page.pair(dream_card(run), _returns(run, rows, draw)),
        _success(run, draw),
        _milestones(run),
        _learning_curve(run, peers, draw),
        _table_of_returns(run, rows),
        _comparisons(run),
        _world_model(run, draw),
        _codes(run, draw),
        token_cards.cards(run, draw),
        page.card(
            "Tokenizer",
            "Held-out frames, and what is left of them after the bottleneck.",
            draw("reconstructions", pictures.reconstructions(run.reconstruction) if run.reconstruction else None),
        ),
        page.card("Gates", "Held-out figures that each stage was judged by before the next began.", _gates(run)),
        _episodes(run),
        _learning(run, draw),
        page.card(
            "Time",
            f"{duration(sum(run.wall_s().values()))} in all.",
            draw("wall_time", figures.wall_time(run), run.wall_s()),
        ),
        _appendix(run, draw),
    ]
    kicker = f"distwm · {run.config.get('recipe', 'run')} · {run.task} · size {run.config.get('size', '?')}"
    title = f"{run.task}, seed {run.seed}"
    return page.page(title, f"{kicker} · training seed {run.seed}", verdict_of_run(run), body)


def _tiles(run: RunFindings, rows: list[Row]) -> list[tuple[str, str]]:
    by_name = {(row.policy, row.mode): row for row in rows}
    found: list[tuple[str, str]] = []
    subject, reference = run.contest.subject, run.contest.reference
    if (row := by_name.get(subject)) and row.gain:
        gain, ends = mean_and_ends(row.gain, sign=True)
        found.append((gain, f"gain over {label_of(*reference)} {ends}"))
        found.append((number(row.returns.mean), f"return of the {label_of(*subject)}"))
    if (best := curves.best_of_last(run.evaluations, subject)) is not None:
        found.append((number(best), f"best of its last {curves.LAST} evaluations on the way"))
    for stage, metric in (
        ("dynamics", "action_use_h4"),
        ("tokenizer", "probe_r2"),
    ):
        if verdict := run.gates.get(stage, {}).get(metric):
            found.append((number(verdict["value"]), describe(metric)))
    if run.records:
        found.append((duration(sum(run.wall_s().values())), "wall time"))
    return found


def dream_card(run: RunFindings) -> str:
    """The open-loop video, which is written to videos/open_loop.mp4."""
    if run.open_loop is None:
        return ""
    folder = run.root / "videos"
    folder.mkdir(exist_ok=True)
    film = write_video(folder / "open_loop.mp4", pictures.dream_video(run.open_loop), DREAM_FPS, width=720)
    context = int(run.open_loop["context"])
    text = (
        f"Left, the {context} frames that the model is given, then it stands still; middle, what happened; "
        "right, what the model dreams from there, knowing the actions alone."
    )
    return page.card("Given · truth · dream", text, page.film(film))


def _returns(run: RunFindings, rows: list[Row], draw: Draw) -> str:
    numbers = {
        label_of(row.policy, row.mode): asdict(row.returns) | {"episodes": [*run.played[row.policy, row.mode].values()]}
        for row in rows
    }
    text = "Means with 95% intervals over episodes; each faint dot is one episode, all from the same start states."
    return page.card(
        "Returns in the real environment",
        text,
        draw("returns", figures.returns(rows, run.played, run.contest.reference), numbers),
    )


def _success(run: RunFindings, draw: Draw) -> str:
    text = "Episodes that solved the task, all from the same start states; 95% Wilson intervals."
    headers = ("policy", "solved", "")
    numbers = {label_of(*player): asdict(share) for player, share in success.shares(run.solved).items()}
    pieces = [draw("success", success.figure(run.solved), numbers), page.table(headers, success.rows(run.solved))]
    return page.card("Success", text, *pieces)


def _milestones(run: RunFindings) -> str:
    text = "Episodes that reached each of them at any step; 95% Wilson intervals."
    return page.card("Milestones", text, page.table(*success.milestones(run.milestones))) if run.milestones else ""


def _learning_curve(run: RunFindings, peers: list[curves.Line], draw: Draw) -> str:
    text = "Evaluations on the way, each from the same start states; 95% intervals over their episodes."
    if peers:
        text = f"{text} Of a baseline with several seeds: over seeds."
    lines = [*curves.lines_over([run.evaluations]), *peers]
    figure = curves.learning_curve(lines, curves.flat_of([run]))
    return page.card("Learning curve", text, draw("learning_curve", figure, curves.numbers(lines)))


def _learning(run: RunFindings, draw: Draw) -> str:
    numbers = {stage: {"step": steps, "loss": values} for stage, steps, values in figures.losses_of(run)}
    text = "The loss of every training stage by its updates."
    return page.card("Learning", text, draw("losses", figures.losses(run), numbers))


def _table_of_returns(run: RunFindings, rows: list[Row]) -> str:
    lines = [
        (
            Cell(name_of(row.policy)),
            Cell("sampled" if row.mode == "sample" else "most likely action"),
            Cell(*mean_and_ends(row.returns)),
            gain_cell(row.gain),
            Cell(str(row.returns.count)),
        )
        for row in rows
    ]
    headers = ("policy", "readout", "mean return", f"paired gain over {name_of(run.contest.reference[0])}", "episodes")
    text = "95% t intervals over episodes. Gains are differences on the same start states, in the same readout."
    return page.card("Table of returns", text, page.table(headers, lines))


def _comparisons(run: RunFindings) -> str:
    lines = []
    for ours, theirs in run.contest.pairs:
        d = differences(run.played, ours, theirs)
        if len(d) > 1:
            share = wilson_interval(int((d > 0).sum()), len(d))
            lines.append(
                (
                    Cell(f"{label_of(*ours)} over {label_of(*theirs)}"),
                    gain_cell(t_interval(d)),
                    Cell(mean_and_ends(bootstrap_interval(d))[1]),
                    Cell(chance(sign_flip_p(d))),
                    Cell(f"{100 * share.mean:.0f}%", f"[{100 * share.low:.0f}, {100 * share.high:.0f}]"),
                )
            )
    headers = ("", "paired gain [t interval]", "bootstrap", "p, sign flips", "starts on which it earns more")
    text = "Differences on the same start states, in four tests. The readout of the first line was fixed in advance."
    return page.card("In pairs", text, page.table(headers, lines))


def gain_cell(gain: Interval | None) -> Cell:
    """A gain with its interval, coloured where that excludes zero."""
    if gain is None:
        return Cell("–")
    tone = "good" if gain.above_zero else "bad" if gain.below_zero else ""
    return Cell(*mean_and_ends(gain, sign=True), tone)


def _world_model(run: RunFindings, draw: Draw) -> str:
    if run.open_loop is None:
        return ""
    text = (
        "Held-out videos, dreamt with the recorded actions. A dream that uses its actions is worse with shuffled ones; "
        "copying the last frame is what a model without dynamics could do; the tokenizer alone is the ceiling."
    )
    return page.card(
        "World model",
        text,
        draw("open_loop", pictures.strips(run.open_loop)),
        draw("horizons", figures.horizons(run.open_loop)),
    )


def _codes(run: RunFindings, draw: Draw) -> str:
    text = "On held-out episodes: what the model predicts from the first observation and the actions alone."
    pieces = [draw("prediction", codes.prediction(run.prediction))] if run.prediction else []
    if run.code_usage:
        pieces.append(draw("code_usage", codes.usage(run.code_usage)))
    return page.card("Codes", text, *pieces)


def _gates(run: RunFindings) -> str:
    rows = [
        (
            Cell(stage),
            Cell(metric, describe(metric)),
            Cell(number(verdict["value"])),
            Cell(verdict["threshold"]),
            Cell("passed" if verdict["passed"] else "missed", tone="good" if verdict["passed"] else "bad"),
        )
        for stage, verdicts in run.gates.items()
        for metric, verdict in verdicts.items()
    ]
    return page.table(("stage", "figure", "value", "asked for", "verdict"), rows)


def _episodes(run: RunFindings) -> str:
    paths = sorted(p for p in (run.root / "videos").glob("*") if p.suffix in page.TYPES and p.stem != "open_loop")
    order = {f"{name}-{mode}": place for place, (name, mode) in enumerate(run.played)}
    paths = sorted(paths, key=lambda path: order.get(path.stem, len(order)))
    small = [path for path in paths if path.stat().st_size <= LARGEST_FILM_BYTES]
    shown = [page.film(path, label_of(*_name_and_mode(path.stem))) for path in small]
    return page.card("Episodes", "Real environment; the same start states for every policy.", page.films(shown))


def _name_and_mode(stem: str) -> tuple[str, str]:
    name, _, mode = stem.rpartition("-")
    return (name, mode) if name else (stem, "sample")


def _appendix(run: RunFindings, draw: Draw) -> str:
    return "".join(
        (
            page.details("Every other figure that was logged", draw("every_curve", figures.every_curve(run))),
            page.details("The command", page.code(command_of(run.root / "config.yaml"))),
            page.details("The configuration", page.code(run.config_text)),
        )
    )
