"""The page of a finished, an unfinished and an empty run; what it says; that it needs nothing from outside."""

import json
import re
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from synthetic_run import make_run

from actors.results import EpisodeResult
from distwm.report import write_report, write_study
from distwm.report.__main__ import main
from distwm.report.inputs import read_run
from distwm.report.numerals import duration, gain_text, number
from distwm.report.verdict import verdict_of_run, verdict_of_study
from distwm.statistics import Interval
from distwm.videos import save_episodes, side_by_side, write_video
from replay.errors import BadInput


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "seed0", gain=14.0)


def test_page_is_whole_and_needs_nothing_from_outside(finished: Path) -> None:
    text = write_report(finished).read_text()
    for title in ("Returns in the real environment", "World model", "Tokenizer", "Gates", "Learning", "Time"):
        assert f"<h2>{title}</h2>" in text
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "url(" not in text
    assert "<script" not in text
    assert "data:video/mp4;base64," in text
    names = {path.name for path in (finished / "report").iterdir()}
    assert {"index.html", "returns.png", "losses.png", "open_loop.png", "horizons.png", "wall_time.png"} <= names


def test_numbers_are_beside_their_pictures(finished: Path) -> None:
    write_report(finished)
    returns, losses = (json.loads((finished / "report" / f"{name}.json").read_text()) for name in ("returns", "losses"))
    run = read_run(finished)
    assert returns["random"]["episodes"] == [*run.played["random", "sample"].values()]
    assert returns["random"]["low"] < returns["random"]["mean"] == pytest.approx(np.mean(returns["random"]["episodes"]))
    assert list(losses) == ["tokenizer", "dynamics", "agent", "imagination"]
    steps, values = run.curve("agent", "loss")
    assert losses["agent"] == {"step": steps.tolist(), "loss": values.tolist()}


def test_the_same_files_give_the_same_page(finished: Path) -> None:
    assert write_report(finished).read_bytes() == write_report(finished).read_bytes()


def test_milestones_are_shown_where_the_suite_has_any(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("report", "videos"))
    path = run / "results" / "returns.json"
    rows = json.loads(path.read_text())
    assert "Milestones" not in write_report(run).read_text()
    for place, row in enumerate(rows):
        row["milestones"] = {"log": True, "iron_pickaxe": place % 2 == 0}
    path.write_text(json.dumps(rows))
    text = write_report(run).read_text()
    assert "<h2>Milestones</h2>" in text
    assert "iron pickaxe" in text
    assert "100%" in text


PARTS = ["metrics.jsonl", "config.yaml", *(f"results/{n}" for n in ("returns.json", "gates.json"))]
PARTS += ["results/open_loop.npz", "results/reconstruction.npz"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_is_left_out(finished: Path, tmp_path: Path, part: str) -> None:
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("report", "videos"))
    (run / part).unlink()
    assert "</html>" in write_report(run).read_text()


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("recipe: dreamer4\n")
    assert "Nothing done yet" in write_report(tmp_path).read_text()
    (tmp_path / "metrics.jsonl").write_text('{"stage": "collect", "kind": "collect", "slice": 1, "step": 1}\n{"cut')
    assert "the last stage begun is collect" in write_report(tmp_path).read_text()


def test_what_files_hold_is_escaped(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("report", "videos"))
    evil = "<script>alert('x')</script>"
    config = json.loads((run / "config.yaml").read_text()) | {"recipe": evil, "env": {"task": evil}}
    (run / "config.yaml").write_text(json.dumps(config))
    (run / "results" / "gates.json").write_text(
        json.dumps({evil: {evil: {"value": None, "threshold": evil, "passed": False}}})
    )
    assert "<script" not in write_report(run).read_text()


def test_damaged_files_and_foreign_directories_are_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no directory"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds no run"):
        write_report(tmp_path)
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("report", "videos"))
    (run / "results" / "open_loop.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(BadInput, match="open_loop"):
        write_report(run)


def test_pickled_arrays_are_not_opened(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("report", "videos"))
    np.savez(run / "results" / "open_loop.npz", truth=np.array([{}], dtype=object), prediction=0, context=0)
    with pytest.raises(BadInput, match="open_loop"):
        read_run(run)


@pytest.mark.parametrize(
    ("gain", "control", "headline"),
    [
        (14.0, 0.0, "The policy beats behaviour cloning: "),
        (14.0, 14.0, "The policy beats behaviour cloning, but so does the control"),
        (0.0, 0.0, "No gain over behaviour cloning shown"),
        (-14.0, 0.0, "The policy falls behind behaviour cloning"),
    ],
)
def test_headline_follows_from_the_intervals(tmp_path: Path, gain: float, control: float, headline: str) -> None:
    verdict = verdict_of_run(read_run(make_run(tmp_path / "run", seed=3, gain=gain, control=control)))
    assert verdict.headline.startswith(headline)
    assert any(note.text.startswith("One training seed") for note in verdict.notes)
    assert any("action_use_h8" in note.text for note in verdict.notes if note.tone == "bad")


def test_study_claims_no_more_than_its_seeds(tmp_path: Path) -> None:
    alike = [read_run(make_run(tmp_path / f"alike{s}", s, gain=14.0)) for s in range(4)]
    verdict = verdict_of_study(alike)
    assert verdict.tone == "good"
    assert "over 4 training seeds of 100 paired episodes" in verdict.headline
    unlike = [read_run(make_run(tmp_path / f"unlike{s}", s, gain=g)) for s, g in enumerate((5.0, 45.0, 20.0))]
    verdict = verdict_of_study(unlike)
    assert "over these 3 training seeds" in verdict.headline
    assert any("not shown for further ones" in note.text for note in verdict.notes)
    assert "too few" in verdict_of_study(alike[:1]).headline


def test_study_page_and_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / f"seed{seed}", seed, gain=14.0) for seed in (0, 1)]
    assert main([str(path) for path in runs]) == 0
    page = tmp_path / "report" / "index.html"
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert 'href="../seed1/report/index.html"' in page.read_text()
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "Mend:" in capsys.readouterr().err


def test_study_refuses_runs_that_do_not_belong_together(tmp_path: Path) -> None:
    first, again, other = (make_run(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    with pytest.raises(BadInput, match="not all different"):
        write_study([first, again])
    config = json.loads((other / "config.yaml").read_text()) | {"size": "small"}
    (other / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"size \(cpu there, small here\)"):
        write_study([first, other])


def test_numbers_as_they_are_read() -> None:
    assert [number(x) for x in (0.0123, -1.234, 12.34, 1234.5, 0.0, float("nan"), -float("inf"))] == [
        *("0.0123", "−1.23", "12.3", "1234", "0.00", "–", "−∞")
    ]
    assert gain_text(Interval(mean=0.773, low=-2.2, high=13.75, count=9)) == "+0.8 [−2.2, 13.8]"
    assert [duration(s) for s in (0.42, 44.6, 61, 3720)] == ["0.4 s", "45 s", "1 min 01 s", "1 h 02 min"]


def test_videos_come_back_as_they_went_in(tmp_path: Path) -> None:
    frames = np.zeros((6, 17, 15, 3), np.uint8)  # odd sizes, which H.264 does not take
    frames[:, 4:8, 4:8] = (200, 160, 60)
    path = write_video(tmp_path / "clip.mp4", side_by_side([frames, frames[:3]], separator=1), fps=5, width=62)
    back = iio.imread(path, plugin="FFMPEG")
    assert back.shape == (6, 34, 62, 3)
    assert abs(back[-1, 10:14, 10:14].mean((0, 1)) - (200, 160, 60)).max() < 12


def test_episode_videos_are_named_after_their_policy(tmp_path: Path) -> None:
    frames = np.zeros((4, 16, 16, 3), np.uint8)
    played = [
        ("bc", "sample", frames),
        ("bc", "sample", frames[:2]),
        ("bc", "mode", frames),
        ("random", "sample", None),
    ]
    results = [
        EpisodeResult(seed=s, policy=p, mode=m, total_reward=0.0, length=3, frames=f)
        for s, (p, m, f) in enumerate(played)
    ]
    assert [path.name for path in save_episodes(tmp_path, results)] == ["bc-sample.mp4", "bc-mode.mp4"]
