"""Installing interpreters: what is done once is not done again, what is missing is said. Nothing is fetched: the one
package lies beside its requirements."""

from __future__ import annotations

import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from actors.hosting import install as module
from actors.hosting.guests.minerl_game import JAR, java_version
from actors.hosting.install import RECIPES, REQUIREMENTS, Recipe, Step, find_python, install, lacking
from actors.hosting.interpreters import NAMES, STAMP, interpreter
from replay.errors import BadInput, Missing

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A simulator "libero" whose package is a folder here; gives the file of its requirements."""
    monkeypatch.setenv("DISTWM_ENVS", str(tmp_path / "envs"))
    requirements = tmp_path / "toy.txt"
    requirements.write_text(f"{wheel(tmp_path)}\n")
    monkeypatch.setattr(module, "REQUIREMENTS", tmp_path)
    steps = (Step(what="the toy", requirements="toy.txt", options=("--no-index",)),)
    recipe = Recipe(python=HERE, steps=steps, imports="toysim")
    monkeypatch.setattr(module, "RECIPES", {"libero": recipe})
    monkeypatch.setattr(module, "lacking", lambda name: iter(()))
    return requirements


def wheel(folder: Path) -> Path:
    """A package of one line."""
    path, info = folder / "toysim-1.0-py3-none-any.whl", "toysim-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toysim.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toysim\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in archive.namelist()))
    return path


def test_it_installs_once_and_resumes(toy: Path) -> None:
    with pytest.raises(Missing, match="install libero"):
        interpreter("libero")
    said: list[str] = []
    python = install("libero", said.append)
    assert python == interpreter("libero")
    assert [line.split()[0] for line in said] == ["makes", "installs", "the", "libero"]
    said.clear()
    install("libero", said.append)
    assert said == [f"libero is installed in {python.parents[1]}"]
    (python.parents[1] / STAMP).unlink()  # as if it had been stopped just before the end
    install("libero", said.append)
    assert "installs the toy" not in said
    toy.write_text(toy.read_text() + "# changed\n")  # new requirements are installed into what is there
    said.clear()
    install("libero", said.append)
    assert said[0] == "installs the toy"


def test_pip_that_fails_is_quoted(toy: Path) -> None:
    toy.write_text("no-such-package-anywhere==1.0\n")
    with pytest.raises(Missing, match=r"the toy could not be installed: ERROR: .*no-such-package") as caught:
        install("libero", lambda _: None)
    assert "install.log" in caught.value.mend
    with pytest.raises(Missing):
        interpreter("libero")


def test_names_and_pythons() -> None:
    with pytest.raises(BadInput, match="nothing to install for 'liberoo'"):
        install("liberoo", lambda _: None)
    with pytest.raises(Missing, match=r"no Python 2\.1"):
        find_python("2.1")
    assert set(RECIPES) == set(NAMES)
    for recipe in RECIPES.values():
        for step in recipe.steps:
            lines = (REQUIREMENTS / step.requirements).read_text().splitlines()
            assert all("==" in line for line in lines if not line.startswith("#")), "every version is pinned"
            weights = any(line.startswith(("torch", "nvidia")) for line in lines)
            assert weights == (step.requirements == "lerobot.txt"), "simulators need no torch"


def test_a_shim_that_runs_nothing_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python9.9"
    shim.write_text("#!/bin/sh\necho 'python9.9: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match=r"no Python 9\.9"):
        find_python("9.9")


@pytest.mark.parametrize(
    ("said", "version"), [('openjdk version "17.0.11" 2024', "17.0"), ('java version "1.8.0_402"', "1.8"), ("", "")]
)
def test_java(said: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        echo '{said}' >&2
        """)
    )
    java.chmod(0o755 if said else 0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("DISTWM_MINERL_GAME", str(tmp_path))
    assert java_version() == version.removesuffix(".0")
    missing = [str(one) for one in lacking("minerl")]
    assert sum("needs Java 8" in one for one in missing) == (version != "1.8")
    assert f"{tmp_path} holds no {JAR}" in missing[-1]
    (tmp_path / JAR).parent.mkdir(parents=True)
    (tmp_path / JAR).touch()
    assert len(list(lacking("minerl"))) == (version != "1.8")


def test_assets_that_are_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.delenv("DISTWM_LIBERO_ASSETS", raising=False)
    assert [one.mend.split()[1] for one in lacking("libero")] == ["DISTWM_LIBERO_ASSETS,"]
    assert list(lacking("robosuite")) == []


def test_all_that_is_missing_is_said_at_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [Missing("There is no first.", "Get the first."), Missing("There is no second.", "Get the second.")]
    monkeypatch.setattr(module, "lacking", lambda name: iter(both))
    with pytest.raises(Missing, match=r"There is no first\. There is no second\.") as caught:
        install("libero", print)
    assert caught.value.mend == "Get the first. Get the second."
