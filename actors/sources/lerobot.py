"""A checkpoint of lerobot: served by a process of lerobot's own interpreter, which ends with us, and asked as any
policy server is."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from actors.envs.registry import EnvConfig
from actors.hosting.interpreters import interpreter, variables
from actors.hosting.process import ROOT, LastWords, last_words, spawn_guarded
from actors.sources.errors import SourceAway, SourceFailed, SourceLate
from actors.sources.lerobot_policy import check_checkpoint, tokenizer_of
from actors.sources.link import UNIX
from actors.sources.openpi import OpenPi
from actors.sources.source import ActionChunk, Request, SourceConfig, SourceSpec
from replay.errors import BadInput, DistwmError, Missing

CHILD = Path(__file__).with_name("child.py")
LOOK_S = 0.05
SAID = re.compile(r"^distwm: (?P<message>.*?)(?: Mend: (?P<mend>.*))?$")


class LeRobot:
    """A policy in a process of its own. If that dies, the next request starts another one: it remembers nothing."""

    def __init__(self, config: SourceConfig) -> None:
        """Raises Missing (the interpreter, files), BadInput (another kind of checkpoint), SourceFailed, SourceLate."""
        self._config = config
        folder = Path(config.path).expanduser().absolute()
        if not config.path:
            raise BadInput("A lerobot source has no checkpoint.", "Set source.path to its folder; no hub is asked.")
        check_checkpoint(folder, config.policy_type)
        tokenizer_of(folder, config.tokenizer)
        self._lock = threading.Lock()  # of starting
        self._closed = False
        self._server = _Server(replace(config, path=str(folder)))

    @property
    def spec(self) -> SourceSpec:
        return self._server.client.spec

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        """Raises the errors of errors.py."""
        for _ in range(self._config.retries):
            server = self._server
            try:
                return server.client.act(requests)
            except SourceAway:
                if not self._replaced(server):
                    raise
        return self._server.client.act(requests)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._server.close()

    def _replaced(self, server: _Server) -> bool:
        """False if there is no need: its process lives, or this source was closed."""
        with self._lock:
            if self._closed or (self._server is server and server.running):
                return False
            if self._server is server:  # nobody else was faster
                server.close()
                self._server = _Server(server.config)
            return True


class _Server:
    """The process, and the connection to it over a socket in a folder of its own."""

    def __init__(self, config: SourceConfig) -> None:
        """Waits until it answers. Raises what `LeRobot` does."""
        self.config = config
        python = interpreter("lerobot")
        self._folder = Path(tempfile.mkdtemp(prefix="distwm-source-"))
        self._socket = self._folder / "socket"
        command = [str(python), "-I", str(CHILD), str(ROOT), *_words(config), "--unix", str(self._socket)]
        self._process = spawn_guarded(command, variables("lerobot"))
        self._ended: LastWords | None = None
        try:
            self._await_socket(time.monotonic() + config.first_timeout_s)
            self.client = OpenPi(replace(config, url=f"{UNIX}{self._socket}", api_key_env="", connect_timeout_s=5.0))
            try:
                self.client.warm_up()
            except BaseException:
                self.client.close()
                raise
        except BaseException:
            self._end()
            raise

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self.client.close()
        self._end()

    def _await_socket(self, deadline: float) -> None:
        while not self._socket.exists():
            if not self.running:
                raise _reason(self.config, self._end())
            if time.monotonic() > deadline:
                raise SourceLate(
                    f"{self.config.path} was not loaded within {self.config.first_timeout_s:g} s.",
                    "Set source.first_timeout_s to more.",
                )
            time.sleep(LOOK_S)

    def _end(self) -> LastWords:
        if self._ended is None:
            self._ended = last_words(self._process)
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._ended


def _words(config: SourceConfig) -> list[str]:
    """Of the server's command."""
    names = ("path", "policy_type", "horizon", "fps", "gripper", "tokenizer", "device")
    settings = [f"{name}={getattr(config, name)}" for name in names]
    batch = ["--max-batch", str(config.max_batch), "--max-wait-ms", str(config.max_wait_ms)]
    return ["actors.sources.lerobot_policy:make", *settings, *batch]


def _reason(config: SourceConfig, words: LastWords) -> DistwmError:
    """Why it did not start: its own error, if it said one of ours."""
    kinds = {2: BadInput, 3: Missing}
    said = next((found for line in reversed(words.tail) if (found := SAID.match(line))), None)
    if said and words.status in kinds:
        return kinds[words.status](said["message"], said["mend"] or "Look at the checkpoint.")
    tail = "".join(f"\n  | {line}" for line in words.tail[-20:])
    return SourceFailed(
        f"The process of {config.path} ended with {words.status} before it served:{tail}",
        "Mend what it says; lerobot lives in an interpreter of its own: python -m distwm.envs install lerobot.",
    )


def make(config: SourceConfig, env: EnvConfig) -> LeRobot:
    return LeRobot(config)
