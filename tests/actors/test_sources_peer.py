"""openpi's own client and ours, both ways: golden bytes, golden pictures, real client on our server, ours on a server
with the real codec. The real one lives in an interpreter of its own; without it these tests say so and are skipped."""

from __future__ import annotations

import inspect
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_sources_codec
from openpi_peer import SIZES, THINNED, picture
from sources_kit import SPEC, Echo, echo, request
from test_sources_openpi import wanted

from actors.hosting.interpreters import interpreter
from actors.sources.openpi import OpenPi
from actors.sources.pictures import resize_with_pad
from actors.sources.protocol import request_in, request_out
from actors.sources.serving import serving
from actors.sources.source import SourceConfig
from replay.errors import Missing

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "openpi_pictures.json"


def test_pictures_are_the_reference_s() -> None:
    """Golden ones were made by `openpi_peer.py pictures`, with openpi-client 0.1.2."""
    for size, golden in zip(SIZES, json.loads(GOLDEN.read_text()), strict=True):
        found = resize_with_pad(picture(*size), 224, 224)
        assert found.shape == (224, 224, 3)
        assert found.dtype == np.uint8
        assert np.abs(found[::THINNED, ::THINNED].astype(int) - np.array(golden)).max() <= 1


@pytest.fixture
def python() -> Path:
    try:
        return interpreter("openpi-client")
    except Missing as missing:
        pytest.skip(str(missing))


def peer(python: Path, *words: str) -> Any:
    command = [str(python), str(HERE / "openpi_peer.py"), *words]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.slow
def test_golden_pictures_and_bytes_are_what_the_reference_makes_now(python: Path, tmp_path: Path) -> None:
    for size, golden, now in zip(SIZES, json.loads(GOLDEN.read_text()), peer(python, "pictures"), strict=True):
        assert np.abs(np.array(golden) - np.array(now)).max() <= 1, size
    source = inspect.getsource(test_sources_codec)
    begin, end = source.index("MESSAGES"), source.index("GOLDEN")
    (tmp_path / "messages.py").write_text(f"from typing import Any\n{source[begin:end]}")
    assert peer(python, "pack", str(tmp_path / "messages.py")) == test_sources_codec.GOLDEN


@pytest.mark.slow
def test_the_real_client_asks_our_server(python: Path) -> None:
    with serving(Echo()) as url:
        told = peer(python, "ask", url, "4")
    for number, actions in enumerate(told["actions"]):
        message = request_out(request(number), SPEC.fields, False, "it")
        np.testing.assert_array_equal(np.array(actions, np.float32), echo(request_in(message, SPEC)))
    assert told["timing"] == [["batch", "infer_ms"]] + 3 * [["batch", "infer_ms", "prev_total_ms"]]
    assert "reads 'agentview'" in told["failed"]
    assert told["metadata"] == ["distwm"]


@pytest.mark.slow
def test_our_client_asks_a_server_with_the_real_codec(python: Path) -> None:
    command = [str(python), str(HERE / "openpi_server.py"), "echo", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        source = OpenPi(SourceConfig(url=f"ws://127.0.0.1:{int(process.stdout.readline())}"))
        source.warm_up()
        asked = [request(number) for number in range(6)]
        np.testing.assert_array_equal(source.act(asked).actions, np.stack([wanted(one) for one in asked]))
        source.close()
    finally:
        process.kill()
        process.communicate()
