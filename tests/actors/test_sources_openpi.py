"""The client of policy servers against servers of openpi's kind and ours: what it asks, and how it takes each fault."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openpi_server import infer, openpi_server
from sources_kit import Echo, echo, request

from actors.envs.registry import EnvConfig
from actors.sources.errors import BadAnswer, BadChunk, BadKey, SourceAway, SourceFailed, SourceLate
from actors.sources.opening import open_source
from actors.sources.openpi import OpenPi
from actors.sources.protocol import LIBERO
from actors.sources.serving import ServerConfig, serving
from actors.sources.source import Request, SourceConfig
from replay.errors import BadInput

QUICK = SourceConfig(kind="openpi", connect_timeout_s=20, first_timeout_s=20, timeout_s=20, retries=2)
Opener = Callable[..., OpenPi]


@pytest.fixture
def opened() -> Iterator[Opener]:
    made: list[OpenPi] = []

    def make(url: str, **changes: Any) -> OpenPi:
        made.append(OpenPi(replace(QUICK, url=url, **changes)))
        return made[-1]

    yield make
    for source in made:
        source.close()


def wanted(asked: Request) -> np.ndarray:
    seen: dict[str, Any] = {LIBERO[name]: values for name, values in asked.fields.items()}
    return infer(seen | {"prompt": asked.prompt})["actions"].astype(np.float32)


def test_a_server_of_openpi_s_is_asked_in_its_own_words(opened: Opener) -> None:
    with openpi_server("echo") as url:
        source = opened(url)
        assert [(f.name, f.shape, f.dtype) for f in source.spec.fields] == [
            ("agentview", (-1, -1, 3), "uint8"),
            ("wrist", (-1, -1, 3), "uint8"),
            ("proprio", (8,), "float32"),
        ]
        assert url in source.spec.provenance
        asked = [request(number) for number in range(6)]
        found = source.act(asked)
        np.testing.assert_array_equal(found.actions, np.stack([wanted(one) for one in asked]))
        assert found.actions.dtype == np.float32
        assert (found.source_s == 0.25e-3).all()
        assert (found.latency_s > 0).all()
        larger = request(3, size=256)  # a flat picture stays as it is when it becomes smaller
        np.testing.assert_array_equal(source.act([larger]).actions[0], found.actions[3])


def test_a_server_of_ours_is_told_everything(opened: Opener) -> None:
    with serving(Echo()) as url:
        source = opened(url)
        assert source.spec == Echo.spec
        asked = [request(number, executed=number) for number in range(5)]
        np.testing.assert_array_equal(source.act(asked).actions, np.stack([echo(one) for one in asked]))


def test_many_ask_at_a_time(opened: Opener) -> None:
    policy = Echo(slow_s="0.05")
    with serving(policy) as url:
        source = opened(url, connections=4)
        answers: dict[int, np.ndarray] = {}

        def ask(number: int) -> None:
            for turn in range(3):
                answers[10 * number + turn] = source.act([request(10 * number + turn)]).actions[0]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 12
        for number, actions in answers.items():
            np.testing.assert_array_equal(actions, echo(request(number)))
        assert max(policy.batches) > 1, "those who ask together are answered together"


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        ("text", SourceFailed, "the policy is unwell"),
        ("nan", BadChunk, "nan for action 2 of step 3"),
        ("short", BadChunk, r"shape \(4, 7\), not \(10, 7\).*source.horizon=4"),
        ("words", BadChunk, "answered with str"),
        ("nothing", BadAnswer, "without actions: .*state"),
        ("garbage", BadAnswer, "8 bytes, which begin with c167"),
        ("huge", BadAnswer, "sent what cannot be read"),
    ],
)
def test_answers_that_are_none(opened: Opener, behaviour: str, error: type[Exception], words: str) -> None:
    with openpi_server(behaviour) as url:
        source = opened(url)
        for _ in range(2):  # the second on a connection of its own, where the first one had to go
            with pytest.raises(error, match=f"(?s){words}") as caught:
                source.act([request()])
            assert url in str(caught.value)


def test_a_wrong_horizon_is_known_when_the_source_is_opened() -> None:
    with openpi_server("short") as url, pytest.raises(BadChunk, match=r"source\.horizon=4"):
        open_source(SourceConfig(kind="openpi", url=url), EnvConfig())


def test_a_server_that_is_not_ready_says_so(opened: Opener) -> None:
    with openpi_server("unready") as url, pytest.raises(SourceFailed, match="no model"):
        opened(url)


def test_a_server_that_compiles_answers_no_ping(opened: Opener) -> None:
    """The same with the usual client: pings every 0.2 s that want an answer within 0.2 s, and the link is gone."""
    with openpi_server("block 3") as url:
        source = opened(url, keepalive_s=0.2, timeout_s=1.0)  # of which the first answer has 20
        np.testing.assert_array_equal(source.act([request()]).actions[0], wanted(request()))
        source.act([request()])


@pytest.mark.slow
def test_a_server_that_compiles_for_fifty_seconds(opened: Opener) -> None:
    with openpi_server("block 50") as url:
        source = opened(url, first_timeout_s=120.0)
        np.testing.assert_array_equal(source.act([request()]).actions[0], wanted(request()))
    with openpi_server("block 50") as url:  # the trap itself: what websockets does unless told otherwise
        from websockets.exceptions import ConnectionClosedError
        from websockets.sync.client import connect

        from actors.sources.codec import pack

        seen = {LIBERO[name]: values for name, values in request().fields.items()} | {"prompt": ""}
        with connect(url, max_size=None) as plain:
            plain.recv()
            plain.send(pack(seen))
            with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
                plain.recv()


def test_one_that_blocks_for_longer_is_late(opened: Opener) -> None:
    with openpi_server("block 2") as url:
        source = opened(url, first_timeout_s=0.5)
        with pytest.raises(SourceLate, match=r"within 0\.5 s.*first_timeout_s"):
            source.act([request()])
        time.sleep(2)  # a later request is not answered with what was late
        np.testing.assert_array_equal(source.act([request(7)]).actions[0], wanted(request(7)))


def test_connections_that_break_are_made_again(opened: Opener) -> None:
    with openpi_server("drop") as url:  # after each answer
        source = opened(url)
        for number in range(4):
            np.testing.assert_array_equal(source.act([request(number)]).actions[0], wanted(request(number)))


def test_a_server_that_dies_at_every_request(opened: Opener, tmp_path: Path) -> None:
    with served("sources_kit:Echo", "fault=exit", port=free_port()) as (url, process):
        source = opened(url, connect_timeout_s=1.0)
        with pytest.raises(SourceAway, match="could not be reached within 1 s"):
            source.act([request()])
        assert process.wait(10) == 3


def test_a_server_that_is_killed_and_started_again(opened: Opener) -> None:
    """In the middle of an episode: the same request is sent again, and the episode goes on."""
    port = free_port()
    with served("sources_kit:Echo", "slow_s=0.3", port=port) as (url, process):
        source = opened(url, connect_timeout_s=120.0)
        asked = [request(number) for number in range(12)]
        done: list[np.ndarray] = []
        thread = threading.Thread(target=lambda: done.extend(source.act([one]).actions[0] for one in asked))
        thread.start()
        while len(done) < 3:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with served("sources_kit:Echo", port=port):
            thread.join(120)
    np.testing.assert_array_equal(np.stack(done), np.stack([echo(one) for one in asked]))


def test_nobody_is_there() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    with pytest.raises(SourceAway, match=r"could not be reached within 0\.5 s: .*[Rr]efused") as caught:
        OpenPi(SourceConfig(url=url, connect_timeout_s=0.5))
    assert caught.value.exit_code == 75
    assert "source.url" in caught.value.mend


@contextlib.contextmanager
def peer(says: bytes = b"", hears: bool = True) -> Iterator[str]:
    """Accepts connections, says something that is no websocket, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listening.accept()[0])
                    kept[-1].sendall(says)
                    if says:
                        kept[-1].recv(4096)
                        kept[-1].close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in kept:
                one.close()


def test_one_that_accepts_and_never_answers() -> None:
    with peer() as url, pytest.raises(SourceAway, match=r"within 0\.5 s: "):
        OpenPi(SourceConfig(url=url, connect_timeout_s=0.5))


def test_one_that_speaks_another_protocol() -> None:
    with peer(b"+PONG\r\n") as url, pytest.raises(BadAnswer, match="no websocket"):
        OpenPi(SourceConfig(url=url, connect_timeout_s=10))
    with pytest.raises(BadInput, match="no address"):
        OpenPi(SourceConfig(url="http://127.0.0.1:8000"))


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Echo(), ServerConfig(port=0, api_key="right")) as url:
        for key in ("", "wrong"):
            monkeypatch.setenv("POLICY_KEY", key)
            config = SourceConfig(url=url, api_key_env="POLICY_KEY" if key else "")
            with pytest.raises(BadKey, match="refuses the key") as caught:
                OpenPi(config)
            assert caught.value.exit_code == 2
        monkeypatch.setenv("POLICY_KEY", "right")
        source = OpenPi(SourceConfig(url=url, api_key_env="POLICY_KEY"))
        source.act([request()])
        source.close()
    monkeypatch.delenv("POLICY_KEY")
    with pytest.raises(BadInput, match="POLICY_KEY holds no key"):
        OpenPi(SourceConfig(url=url, api_key_env="POLICY_KEY"))


def test_observations_that_do_not_fit(opened: Opener) -> None:
    with openpi_server("echo") as url:
        source = opened(url)
        whole = request()
        fields = dict(whole.fields)
        for wrong, words in (
            ({"agentview": fields["agentview"], "wrist": fields["wrist"]}, "reads 'proprio'.*env.state=true"),
            (fields | {"wrist": fields["wrist"].astype(np.float32)}, "it is float32"),
            (fields | {"proprio": np.zeros(9, np.float32)}, r"of shape \(9,\)"),
        ):
            with pytest.raises(BadInput, match=f"(?s){words}"):
                source.act([request(fields=wrong)])
        source.act([whole])


def test_requests_that_are_too_large(opened: Opener) -> None:
    with serving(Echo(), ServerConfig(port=0, max_bytes=100_000)) as url:
        source = opened(url)
        with pytest.raises(BadInput, match="no request of this size"):
            source.act([request()])


def test_another_source_at_the_same_address(opened: Opener) -> None:
    port = free_port()
    with serving(Echo(), ServerConfig(port=port)) as url:
        source = opened(url)
        source.act([request()])
    with openpi_server("echo", port), pytest.raises(BadAnswer, match="another source than before"):
        source.act([request()])


def test_closing_while_somebody_waits(opened: Opener) -> None:
    with serving(Echo(slow_s="1")) as url:
        source = opened(url)
        raised: list[BaseException] = []

        def ask() -> None:
            try:
                source.act([request()])
            except SourceAway as error:
                raised.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        source.close()
        source.close()
        thread.join(10)
        assert "closed on our side" in str(raised[0])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextlib.contextmanager
def served(*words: str, port: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Our server's command, as a process."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent.parent), str(here)])
    process = subprocess.Popen(
        [sys.executable, "-m", "actors.sources.server", *words, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serves at ws://")
        yield f"ws://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.communicate()
