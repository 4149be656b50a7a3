"""Checkpoints of lerobot: what is said of files that are not right, and a real policy in its own interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources_kit import request
from test_hosting import alive, await_dead

from actors.envs.registry import EnvConfig
from actors.hosting.guardian import descendants
from actors.hosting.interpreters import interpreter, variables
from actors.sources.lerobot_policy import inputs_of
from actors.sources.opening import open_source
from actors.sources.source import SourceConfig
from replay.errors import BadInput, Missing

HERE = Path(__file__).parent
TEXT = {"registry_name": "tokenizer_processor", "config": {"tokenizer_name": "google/paligemma-3b-pt-224"}}


def open_(path: Path | str, **changes: Any) -> Any:
    return open_source(SourceConfig(kind="lerobot", path=str(path), **changes), EnvConfig())


def pretend(folder: Path, kind: str = "pi05", steps: tuple[Any, ...] = (TEXT,)) -> Path:
    """Files with nothing in them."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"type": kind}))
    (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": steps}))
    (folder / "policy_postprocessor.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


def test_what_is_wrong_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTWM_ENVS", str(tmp_path / "envs"))
    with pytest.raises(BadInput, match="no hub is asked"):
        open_("")
    with pytest.raises(Missing, match="There is no checkpoint"):
        open_(tmp_path / "nowhere")
    folder = pretend(tmp_path / "checkpoint", "act")
    with pytest.raises(BadInput, match=r"of type act, not pi05.*source\.policy_type=act"):
        open_(folder)
    with pytest.raises(
        Missing,
        match=r"has no tokenizer, and .* paligemma.*source\.tokenizer".replace(
            "paligemma", "google/paligemma-3b-pt-224"
        ),
    ):
        open_(pretend(folder))
    (folder / "tokenizer.json").touch()
    with pytest.raises(Missing, match=r"python -m distwm\.envs install lerobot"):
        open_(folder)
    (folder / "policy_postprocessor.json").unlink()
    with pytest.raises(Missing, match=r"has no policy_postprocessor\.json"):
        open_(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(BadInput, match=r"config\.json is no policy's"):
        open_(folder)


def test_what_a_policy_reads() -> None:
    features = {
        "observation.images.image": (3, 256, 256),
        "observation.images.image2": (3, 256, 256),
        "observation.images.empty_camera_0": (3, 224, 224),
        "observation.state": (8,),
    }
    found = {name: (field.name, field.shape, field.dtype) for name, field in inputs_of(features).items()}
    assert found == {
        "observation.images.image": ("agentview", (256, 256, 3), "uint8"),
        "observation.images.image2": ("wrist", (256, 256, 3), "uint8"),
        "observation.state": ("proprio", (8,), "float32"),
    }
    with pytest.raises(BadInput, match=r"reads observation\.images\.top"):
        inputs_of({"observation.images.top": (3, 8, 8)})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ACT policy with random weights, saved by lerobot."""
    try:
        python = interpreter("lerobot")
    except Missing as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("act")
    command = [str(python), str(HERE / "lerobot_checkpoint.py"), str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=os.environ | variables("lerobot"))
    assert said.returncode == 0, said.stderr
    return folder


@pytest.fixture
def source(checkpoint: Path) -> Iterator[Any]:
    found = open_(checkpoint, policy_type="act", timeout_s=120.0, first_timeout_s=1200.0)
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_policy_of_lerobot_s(checkpoint: Path, source: Any) -> None:
    assert source.spec.horizon == 10
    assert source.spec.action_dim == 7
    assert "policy of type act" in source.spec.provenance
    asked = [request(number, size=96) for number in range(3)]
    together = source.act(asked)
    assert together.actions.shape == (3, 10, 7)
    assert len({chunk.tobytes() for chunk in together.actions}) == 3
    for number in range(3):
        np.testing.assert_array_equal(source.act([asked[number]]).actions[0], together.actions[number])

    (guardian,) = [pid for pid in descendants(os.getpid()) if "child.py" in cmdline(pid) and parent(pid) == os.getpid()]
    children = descendants(guardian)
    os.kill(children[0], signal.SIGKILL)  # it is started again, and answers as before
    np.testing.assert_array_equal(source.act(asked).actions, together.actions)
    await_dead(guardian, *children)
    (guardian,) = [pid for pid in descendants(os.getpid()) if "child.py" in cmdline(pid) and parent(pid) == os.getpid()]
    children = descendants(guardian)
    assert all(map(alive, children))
    source.close()
    source.close()
    await_dead(guardian, *children)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_the_other_interpreter_says_is_heard(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"predicts 12 actions.*source\.horizon=12"):
        open_(checkpoint, policy_type="act", horizon=50, first_timeout_s=1200.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_weights_that_are_not_the_policy_s(checkpoint: Path, tmp_path: Path) -> None:
    """lerobot itself may go on with random ones."""
    code = "import sys; from pathlib import Path; from actors.sources.lerobot_policy import *; import torch\n"
    code += "from lerobot.policies.factory import get_policy_class\n"
    code += "policy = get_policy_class('act').from_pretrained(sys.argv[1]); folder = Path(sys.argv[1])\n"
    code += "check_weights(policy.state_dict(), folder); print('loaded')\n"
    code += "others = {name: value + 1 for name, value in policy.state_dict().items()}\n"
    code += "for state in (others, dict.fromkeys('abc')):\n"
    code += "    try: check_weights(state, folder)\n"
    code += "    except BadInput as error: print(error.message)\n"
    root = HERE.parent.parent
    environment = os.environ | variables("lerobot") | {"PYTHONPATH": str(root)}
    command = [str(interpreter("lerobot")), "-c", code, str(checkpoint)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment)
    lines = said.stdout.splitlines()[-3:]
    assert lines[0] == "loaded", said.stderr
    assert "and the policy has others" in lines[1]
    assert "it has 0 of the policy's 3 weights" in lines[2]


def cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
