"""`python -m actors.sources.server`: health, keys, batches, bad requests, and how it stops."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sources_kit import SPEC, Echo, echo, request
from test_sources_openpi import free_port, served
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from actors.sources import server
from actors.sources.batching import BatchConfig
from actors.sources.codec import pack, unpack
from actors.sources.openpi import OpenPi
from actors.sources.protocol import request_in, request_out, spec_in
from actors.sources.serving import ServerConfig, serving
from actors.sources.source import SourceConfig
from replay.errors import BadInput


def health(url: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("ws://"), timeout=10)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_health_and_pings_while_it_thinks() -> None:
    with serving(Echo(slow_s="1"), ServerConfig(port=0, api_key="secret")) as url:
        source = []
        key = {"Authorization": "Api-Key secret"}
        with connect(url, additional_headers=key, ping_interval=0.1, ping_timeout=0.5) as link:
            source.append(spec_in(unpack(link.recv()), "it"))
            link.send(pack(request_out(request(), SPEC.fields, True, "it")))
            assert health(url) == (200, b"OK\n")
            answer = unpack(link.recv(10))
        assert source == [SPEC]
        np.testing.assert_array_equal(answer["actions"], echo(request()))
        assert answer["server_timing"]["infer_ms"] >= 1000
        assert answer["policy_timing"]["infer_ms"] >= 1000


def test_who_sends_libero_s_names_is_answered_too() -> None:
    """As openpi's own client does, which knows no others, with the state in float64."""
    whole = request(3, episode=0, step=0, seed=0)
    message = request_out(whole, SPEC.fields, False, "it")
    message["observation/state"] = message["observation/state"].astype(np.float64)
    found = request_in(unpack(pack(message)), SPEC)
    np.testing.assert_array_equal(echo(found), echo(whole))


def test_requests_wait_for_one_another() -> None:
    policy = Echo()
    batch = BatchConfig(max_batch=3, max_wait_ms=500)
    with serving(policy, ServerConfig(port=0, batch=batch)) as url:
        source = OpenPi(SourceConfig(url=url, connections=3))
        for _ in range(3):
            source.act([request(number) for number in range(3)])
        source.close()
    assert 3 in policy.batches
    assert sum(policy.batches) == 9


@pytest.mark.parametrize("fault", ["raise", "nan", "short"])
def test_one_that_fails_fails_alone(fault: str) -> None:
    batch = BatchConfig(max_batch=3, max_wait_ms=2000)
    with serving(Echo(fault, at="77"), ServerConfig(port=0, batch=batch)) as url:
        source = OpenPi(SourceConfig(url=url, connections=3))
        answers: dict[int, object] = {}

        def ask(step: int) -> None:
            try:
                answers[step] = source.act([request(step, step=step)]).actions[0]
            except Exception as error:  # noqa: BLE001
                answers[step] = str(error)

        threads = [threading.Thread(target=ask, args=(step,)) for step in (5, 77, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for step in (5, 6):
            np.testing.assert_array_equal(answers[step], echo(request(step, step=step)))
        words = {"raise": "the policy is unwell", "nan": "nan", "short": "same shape|4, 7|shape"}[fault]
        assert any(word in str(answers[77]) for word in words.split("|")), answers[77]
        source.close()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\xc1", "no message"),
        ("hello", "A request was str"),
        (pack([1, 2]), "A request was list"),
        (pack({"prompt": "lift"}), "reads 'agentview'"),
        (pack({name: [0] for name in ("agentview", "wrist", "proprio")}), "was list"),
    ],
)
def test_bad_requests_are_told_and_closed(message: bytes | str, words: str) -> None:
    with serving(Echo()) as url, connect(url) as link:
        link.recv()
        link.send(message)
        assert words in str(link.recv(10))
        with pytest.raises(ConnectionClosedError, match="1011"):
            link.recv(10)


@pytest.mark.parametrize(
    "rest", [{"episode": -1}, {"step": 1.5}, {"seed": "x"}, {"executed": np.zeros((2, 3))}, {"executed": 0}, [1]]
)
def test_numbers_that_are_none(rest: object) -> None:
    message = request_out(request(), SPEC.fields, True, "it")
    given = message["distwm"] | rest if isinstance(rest, dict) else rest
    with pytest.raises(BadInput):
        request_in(message | {"distwm": given}, SPEC)


def test_it_stops_when_it_is_told_to_and_answers_first() -> None:
    with served("sources_kit:Echo", "slow_s=1", port=free_port()) as (url, process):
        source = OpenPi(SourceConfig(url=url, retries=0))
        answers: list[np.ndarray] = []
        thread = threading.Thread(target=lambda: answers.append(source.act([request()]).actions[0]))
        thread.start()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        thread.join(20)
        assert process.wait(20) == 0
        np.testing.assert_array_equal(answers[0], echo(request()))
        source.close()


def test_a_source_that_hangs_does_not_keep_the_process() -> None:
    words = ("sources_kit:Echo", "slow_s=3600", "--close-s", "0.2")
    with served(*words, port=free_port()) as (url, process), connect(url) as link:
        link.recv()
        link.send(pack(request_out(request(), SPEC.fields, True, "it")))
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert "stopped meanwhile" in str(link.recv(20))
        assert process.wait(20) == 0


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, code, said in (
        (["nothing"], 2, "Unknown kind of action source 'nothing'"),
        (["recorded", "pth=x"], 2, "no key 'pth'"),
        (["recorded", "horizon=many"], 2, "horizon=many is no int"),
        (["recorded", f"path={tmp_path}/none"], 2, "There is no"),
        (["recorded", "path"], 2, "'path' is no setting"),
        (["nowhere:make"], 2, "There is no source nowhere:make"),
        (["sources_kit:Echo", "--host", "192.0.2.1"], 3, "cannot listen at 192.0.2.1:8000"),
        (["sources_kit:Echo", "--api-key-env", "NO_SUCH_KEY"], 2, "NO_SUCH_KEY holds no key"),
    ):
        assert server.main(words) == code
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        server.main(["--help"])
    assert "exit codes" in capsys.readouterr().out


def test_it_listens_on_a_socket_of_the_file_system(tmp_path: Path) -> None:
    with serving(Echo(), ServerConfig(unix=str(tmp_path / "s"))) as url:
        assert url == f"unix://{tmp_path}/s"
        source = OpenPi(SourceConfig(url=url))
        np.testing.assert_array_equal(source.act([request(4)]).actions[0], echo(request(4)))
        source.close()
