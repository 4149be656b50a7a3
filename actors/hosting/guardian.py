"""The process between a host and its environment: whatever happens to either, nothing of the environment is left.

Runs on Python 3.8 and the standard library. It adopts every orphan below it, also those that made a group or a session
of their own, and kills all of them when its standard input ends (the host closed it, or died) or the environment ends.
Then it says on its standard output how that was.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TAIL_LINES, LINE_BYTES = 50, 400  # together they fit into a pipe, so that the last words never block
KILL_S = 10.0


def fork_guarded() -> None:
    """Forks. The child returns and is to become the environment, without standard input, its output going to the
    parent; the parent guards it and never returns."""
    read, write = os.pipe()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    guardian, child = os.getpid(), os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _become_guarded(guardian, write)
        for descriptor in (read, write, wake_read, wake_write):
            os.close(descriptor)
        return
    _close_all_but(read, wake_read, wake_write)  # only the environment may keep the host's pipes open
    os._exit(_guard(child, read, wake_read))


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _become_guarded(guardian: int, output: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:  # it died before the request
        os._exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(os.devnull)  # noqa: SIM115 (for the life of the process)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 (by lines: its last ones count)


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in kept:
            with contextlib.suppress(OSError):  # the one that listed the folder
                os.close(descriptor)


def _guard(child: int, output: int, wake: int) -> int:
    os.set_blocking(output, False)
    tail = Tail()
    poll = select.poll()
    for descriptor in (0, output, wake):
        poll.register(descriptor, select.POLLIN)
    status: int | None = None
    wanted = True  # by the host
    while wanted and status is None:
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                wanted = bool(os.read(0, 1))
            elif descriptor == output:
                if not tail.read(output):
                    poll.unregister(output)
            else:
                os.read(wake, 4096)
                status = _reap(child, status)
    status = _end(child, status)
    tail.read(output)
    return _report(status, tail)


def _report(status: int | None, tail: Tail) -> int:
    words = json.dumps({"status": status, "tail": tail.lines()}).encode()
    try:
        os.write(1, words)
    except OSError:  # the host is gone: nobody listens
        return 1
    return 0


def _end(child: int, status: int | None) -> int | None:
    """Kills what lives below this process; the environment's status."""
    deadline = time.monotonic() + KILL_S
    while time.monotonic() < deadline:
        found = descendants(os.getpid())
        if not found:
            break
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
        status = _reap(child, status)
    return status


def _reap(child: int, status: int | None) -> int | None:
    """Buries every dead process below this one; the environment's status if it was among them."""
    while True:
        try:
            pid, found = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = found


def descendants(root: int) -> list[int]:
    """The processes below `root`, as /proc has them now."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue  # it is gone
    found: list[int] = []
    layer = {root}
    while layer:
        layer = {pid for pid, parent in parents.items() if parent in layer}
        found.extend(layer)
    return found


class Tail:
    """The last lines of a stream."""

    def __init__(self) -> None:
        self._lines: collections.deque[bytes] = collections.deque(maxlen=TAIL_LINES)
        self._rest = b""

    def read(self, descriptor: int) -> bool:
        """Takes what there is; False at the end of the stream."""
        while True:
            try:
                data = os.read(descriptor, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            *lines, rest = (self._rest + data).split(b"\n")
            self._lines.extend(line[:LINE_BYTES] for line in lines)
            self._rest = rest[-65536:]

    def lines(self) -> list[str]:
        rest = [self._rest[:LINE_BYTES]] if self._rest else []
        return [line.decode("utf-8", "replace") for line in [*self._lines, *rest]][-TAIL_LINES:]
