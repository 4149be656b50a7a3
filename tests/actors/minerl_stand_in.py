"""In place of MineRL's game: speaks Malmo's protocol and plays what a script says. Started by `write_game`'s
launchClient.sh as the package starts the game; runs on Python 3.8 and the standard library.

The script is JSON: "hang" never gets ready; "steps" has for each step an inventory, a reward, done, "blank" (nothing is
told but the picture) or "gone" (the game dies). Behind the last one nothing happens any more. What it was told goes to
"log", a JSON value a line.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

JAR = "build/libs/MalmoMod-0.37.0-fat.jar"


def write_game(folder: Path, **script: object) -> Path:
    """A folder that passes for a built game, with its log beside it."""
    (folder / JAR).parent.mkdir(parents=True)
    (folder / JAR).touch()
    (folder / "script.json").write_text(json.dumps({**script, "log": str(folder) + ".log"}))
    launch = folder / "launchClient.sh"
    launch.write_text(f'#!/bin/sh\ncd "$(dirname "$0")"\nexec {sys.executable} {__file__} "$@"\n')
    launch.chmod(launch.stat().st_mode | stat.S_IXUSR)
    return folder


def write_java(folder: Path, version: str) -> None:
    """A `java` that says this version."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    (folder / "java").chmod(0o755)


def read_log(game: Path) -> list:
    return [json.loads(line) for line in Path(f"{game}.log").read_text().splitlines()]


class Game:
    def __init__(self) -> None:
        self.script = json.loads(Path("script.json").read_text())
        self.side, self.step, self.inventory = 0, 0, {}

    def log(self, **words: object) -> None:
        with open(self.script["log"], "a") as file:
            file.write(json.dumps(words) + "\n")

    def picture(self) -> bytes:
        """Red at the bottom, whose rows come first; else as grey as there were steps."""
        grey = bytes([self.step % 256]) * (3 * self.side * (self.side - self.side // 4))
        return b"\xff\x00\x00" * (self.side * (self.side // 4)) + grey

    def told(self) -> bytes:
        stacks = [{"type": name, "quantity": number, "metadata": 0} for name, number in self.inventory.items()]
        hand = {"type": "stone_axe", "metadata": 0, "damage": 3, "maxDamage": 131}
        return json.dumps(
            {"inventory": stacks, "equipped_items": {"mainhand": hand}, "compassAngle": 12.5, "other": 1}
        ).encode()

    def serve(self, connection: socket.socket) -> None:
        while True:
            message = receive(connection)
            if message is None:
                return
            self.answer(connection, message.decode())

    def answer(self, connection: socket.socket, words: str) -> None:
        if words.startswith("<MissionInit"):
            self.begin(connection, words)
        elif words.startswith("<Peek"):
            self.tell(connection, self.picture(), self.told(), struct.pack("!b", 0))
        elif words.startswith("<StepClient"):
            self.play(connection, re.sub("<[^>]*>", "", words).split("\n"))
        elif words.startswith(("<Quit", "<Exit")):
            self.tell(connection, struct.pack("!I", 1))

    def begin(self, connection: socket.socket, mission: str) -> None:
        token = receive(connection).decode().split(":")
        (self.side,) = map(int, re.findall(r"<Width>(\d+)", mission))
        self.step, self.inventory = 0, {}
        limit = re.findall(r'timeLimitMs="(\d+)"', mission)
        self.log(
            seed=token[5] if len(token) > 5 else None,
            limit_ms=limit,
            inventories=mission.count("<ObservationFromFullInventory"),
        )
        self.tell(connection, struct.pack("!I", 1))

    def play(self, connection: socket.socket, commands: list) -> None:
        steps = self.script.get("steps", [])
        now = steps[self.step] if self.step < len(steps) else {}
        self.step += 1
        self.log(commands=commands)
        if now.get("gone"):
            os._exit(1)
        self.inventory = now.get("inventory", self.inventory)
        told = b"{}" if now.get("blank") else self.told()
        self.tell(
            connection, self.picture(), struct.pack("!dbb", now.get("reward", 0), now.get("done", False), 1), told
        )

    def tell(self, connection: socket.socket, *parts: bytes) -> None:
        connection.sendall(b"".join(struct.pack("!I", len(part)) + part for part in parts))


def receive(connection: socket.socket) -> bytes | None:
    head = exactly(connection, 4)
    return None if head is None else exactly(connection, struct.unpack("!I", head)[0])


def exactly(connection: socket.socket, count: int) -> bytes | None:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            return None
        found += more
    return found


def main() -> None:
    game = Game()
    helper = subprocess.Popen(["sleep", "1000"], start_new_session=True)  # as Java's own are, hard to find again
    headless = os.environ.get("MINERL_HEADLESS")
    game.log(pids=[os.getpid(), helper.pid], headless=headless, arguments=sys.argv[1:], folder=os.getcwd())
    print("Loading world", flush=True)
    while game.script.get("hang"):
        time.sleep(1)
    with socket.create_server(("localhost", 0)) as server:
        print(f"***** Start MalmoEnvServer on port {server.getsockname()[1]}", flush=True)
        print("CLIENT enter state: DORMANT", flush=True)
        while True:
            game.serve(server.accept()[0])


if __name__ == "__main__":
    main()
