"""Four environments into one replay while they are killed: python tests/chaos/mixed.py --minutes 10 --out DIR

`python -m distwm.collect` with two tasks of dmc, one of LIBERO and one of Crafter, each hosted in a process of its own.
Every 30 s one of them loses its runner's process or its environment's, by turns (SIGKILL). Then all that is stored is
read and compared with the ledger, the manifest and the counters. Prints a table, leaves mixed.png in DIR, and ends with
1 if a promise is broken. LIBERO needs `distwm.envs install libero` and DISTWM_LIBERO_ASSETS.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from mixed_audit import Found, audit
from mixed_report import Kill, picture, table

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("dmc/walker_walk", "dmc/cheetah_run", "libero/libero_object/4=expert", "crafter/reward")
MARK = "DISTWM_MIXED"  # a variable that everything we start inherits
SETTINGS = ("env.hosted=true", "env.image_size=64", "env.render_size=64", "fleet.cpus_per_runner=0.25")
GONE_S = 10.0  # for processes to end, after a kill and at the end
LOOK_S = 0.5


@dataclass(slots=True)
class Mixed:
    """The command under test and what is done to it."""

    out: Path
    minutes: float
    tasks: Sequence[str] = TASKS
    settings: Sequence[str] = SETTINGS
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    kills: list[Kill] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # processes that outlived what they belonged to

    def start(self) -> subprocess.Popen[bytes]:
        words = [*self.tasks, *self.settings, f"minutes={self.minutes:g}", f"out={self.out}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", MARK: self.token}
        environment.pop("RAY_ADDRESS", None)
        return subprocess.Popen([sys.executable, "-m", "distwm.collect", *words], cwd=ROOT, env=environment)

    def seconds(self) -> float:
        """Of collecting, by the manifest's clock; 0 before there is one."""
        path = self.out / "collect.json"
        return json.loads(path.read_text())["seconds"] + time.time() - path.stat().st_mtime if path.exists() else 0.0

    def disturb(self, process: subprocess.Popen[bytes], every_s: float) -> None:
        """One kill after the other, in time for the last to be mended."""
        turns, due_s = self._turns(), every_s
        while process.poll() is None:
            time.sleep(LOOK_S)
            if due_s <= self.seconds() < 60 * self.minutes - every_s / 2 and self._kill(*next(turns)):
                due_s = self.seconds() + every_s

    def orphans(self) -> list[psutil.Process]:
        """Whatever of ours is still there after the command."""
        deadline = time.monotonic() + GONE_S
        while (found := list(marked(self.token))) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return found

    def _turns(self) -> Iterator[tuple[int, str]]:
        """Each runner and each environment, in the end; two kills of one task lie apart."""
        while True:
            for shift in range(2):
                for number in range(len(self.tasks)):
                    yield number, ("runner", "environment")[(number + shift) % 2]

    def _kill(self, number: int, what: str) -> bool:
        """False if the runner is just being started."""
        row = self._runner(number)
        if row is None or row["state"] not in ("busy", "idle") or not psutil.pid_exists(row["pid"]):
            return False
        runner = psutil.Process(row["pid"])
        hosts = [p for p in runner.children(recursive=True) if "hosting/child.py" in " ".join(p.cmdline())]
        if not hosts:
            return False
        victim = runner if what == "runner" else hosts[-1]  # the guardian comes before what it guards
        task = row["task"]
        victim.kill()
        self.kills.append(Kill(at_s=self.seconds(), task=task, what=what))
        print(f"[{self.kills[-1].at_s:5.0f} s] kill -9 the {what} of {task}, process {victim.pid}", flush=True)
        _, alive = psutil.wait_procs([victim, *hosts], timeout=GONE_S)
        self.left += [f"{p.pid} after the kill of the {what} of {task}" for p in alive]
        return True

    def _runner(self, number: int) -> dict | None:
        rows = json.loads((self.out / "collect.json").read_text()).get("runners", [])
        return next((row for row in rows if row["member"] == number), None)


def marked(token: str) -> Iterator[psutil.Process]:
    """Processes that were started by the command, or by what it started."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == token and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def run(mixed: Mixed, every_s: float) -> tuple[list[Found], list[str]]:
    """What was found of each order, and what is wrong beyond that."""
    process = mixed.start()
    try:
        mixed.disturb(process, every_s)
    finally:
        process.kill()
        process.wait()
    wrong = [f"the command ended with {process.returncode}"] if process.returncode else []
    wrong += [f"process {left} is still there" for left in mixed.left]
    wrong += [f"an orphan: {p.pid} {' '.join(p.cmdline())[:100]}" for p in mixed.orphans()]
    check = [sys.executable, "-m", "distwm.replay", "verify", str(mixed.out)]
    verified = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    wrong += [f"verify: {verified.stdout[-500:]}"] if verified.returncode else []
    found = audit(mixed.out)
    for what, reason in (("runner", "died"), ("environment", "env_died")):
        counted, killed = sum(f.failures.get(reason, 0) for f in found), sum(k.what == what for k in mixed.kills)
        wrong += [f"{killed} kills of a {what}, but {reason} {counted}"] if counted != killed else []
    return found, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=float, default=30, metavar="S", help="seconds from kill to kill (30)")
    parser.add_argument("--out", type=Path, default=Path("mixed"), help="a new directory")
    given = parser.parse_args()
    mixed = Mixed(given.out.resolve(), given.minutes)
    found, wrong = run(mixed, given.every)
    wrong += [f"{one.key}: {said}" for one in found for said in one.wrong]
    print("\n".join(table(found, mixed.kills)))
    picture(found, mixed.kills, mixed.out / "mixed.png")
    print(f"\n{len(mixed.kills)} kills; {len(wrong)} promises broken" + "".join(f"\nFAIL {said}" for said in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
