"""Bad input, missing parts, and what the command prints: the exit code and one line with the mend."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml
from harness import TOY, Command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dreamer4", "tokenizer.lrr=1"], "tokenizer.lr"),
        (["dreamer4", "seed=1.5"], "seed"),
        (["dreamer4", "size=huge"], "size=cpu"),
        (["dreamer5"], "dreamer4"),
        (["dreamer4", "seed"], "key=value"),
        (["dreamer4", "seed=1", "seed=2"], "twice"),
        (["dreamer4", "seeds=0,0"], "different seeds"),
        (["dreamer4", "algorithm=nowhere:Nothing"], "dreamer4"),
        (["dreamer4", "env.task=dmc/cartpole_swing"], "cartpole_swingup"),
    ],
)
def test_bad_input_is_2(command: Command, tmp_path: Path, words: list[str], said: str) -> None:
    done = command(*words, *([f"run_dir={tmp_path / 'r'}"] if "seed" not in words[-1] else []))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Mend:" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "r").exists()


def test_a_replay_that_does_not_answer_is_75(command: Command, tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound but not listening: nobody answers there
        bound.bind(("127.0.0.1", 0))
        url = f"redis://:secret@127.0.0.1:{bound.getsockname()[1]}"
        done = command("dreamer4", f"replay.url={url}", "replay.connect_timeout_s=1", f"run_dir={tmp_path / 'r'}")
    assert done.returncode == 75
    assert "127.0.0.1" in done.stderr
    assert "secret" not in done.stderr


def test_a_missing_renderer_is_3(command: Command, tmp_path: Path) -> None:
    for name in ("libOSMesa.so", "libOSMesa.so.6", "libOSMesa.so.8"):
        (tmp_path / name).touch()  # found first, and no library
    done = command("dreamer4", "size=tiny", f"run_dir={tmp_path / 'r'}", LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 3, done.stderr
    assert "apt-get install" in done.stderr


def test_a_directory_of_another_run_is_refused(command: Command, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "thesis.tex").write_text("precious")
    done = command(TOY, f"run_dir={run_dir}")
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert (run_dir / "thesis.tex").read_text() == "precious"


def test_dry_run_prints_a_configuration_that_loads(command: Command) -> None:
    done = command("dreamer4", "--dry-run", "tokenizer.lr=1e-5")
    assert done.returncode == 0
    text, _, table = done.stdout.partition("cluster:")
    assert yaml.safe_load(text)["tokenizer"]["lr"] == 1e-5
    assert "dynamics" in table


def test_help_lists_every_setting(command: Command) -> None:
    done = command("dreamer4", "--help-config")
    assert done.returncode == 0
    assert "tokenizer.lr" in done.stdout
    assert "checkpoint_every_s" in done.stdout
    assert command("--help").returncode == 0
