"""deploy/redis with a real server: each user may do its work and no more, over TLS alone; all else fails at once."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from redis.exceptions import NoPermissionError
from replay_cases import SPEC, make_steps, write

from replay.config import LimiterConfig, ReplayConfig
from replay.errors import BadInput, DistwmError, TryAgain
from replay.schema import ChunkId, Entry
from replay.shards.commit import Pace
from replay.shards.connection import Connection
from replay.shards.limiter import Held
from replay.shards.router import Router
from replay.shards.shard import Shard
from replay.shards.status import status
from replay.shards.survey import Surveyor
from replay.shards.verify import verify_shard
from replay.sources.redis_source import RedisSource
from replay.writing.spool import spool_root
from replay.writing.writer import ReplayWriter

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "redis"
USERS = ("actor", "learner", "monitor", "admin")
PASSWORDS = {user: secrets.token_hex(16) for user in USERS}


def with_tls() -> str | None:
    """A Redis 7 that has TLS. Debian's redis-tools carry the server under the name of redis-check-rdb."""
    names = ("redis-server", "valkey-server", "redis-check-rdb")
    found = (shutil.which(name, path=folder) for folder in os.get_exec_path() for name in names)
    return next((binary for binary in found if binary and _reads_tls(binary)), None)


def _reads_tls(binary: str) -> bool:
    """Whether it knows both settings: then it stumbles over the third line only."""
    lines = "tls-port 0\nenable-debug-command no\nunheard-of 1\n"
    command = ["redis-server", "-"]
    done = subprocess.run(command, executable=binary, input=lines, capture_output=True, text=True, timeout=10)
    return "at line 3" in done.stdout + done.stderr


class Secured:
    """A server with the files of deploy/redis, and urls for its users."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.directory = directory
        self.ca, self.port = directory / "certs" / "ca.crt", free_port()
        environment = os.environ | {f"REDIS_{user.upper()}_PASSWORD": PASSWORDS[user] for user in USERS}
        for words in (["make-certs.sh", "certs", "localhost"], ["make-users.sh", "users.acl"]):
            subprocess.run([DEPLOY / words[0], *words[1:]], cwd=directory, env=environment, check=True, timeout=30)
        command = ["redis-server", str(DEPLOY / "redis.conf"), "--tls-port", str(self.port)]
        with open(directory / "log.txt", "wb") as log:
            self.process = subprocess.Popen(
                command, executable=binary, cwd=directory, stdout=log, stderr=subprocess.STDOUT
            )

    def url(self, user: str, scheme: str = "rediss", password: str = "") -> str:
        password = password or PASSWORDS[user]
        options = f"?ssl_ca_certs={self.ca}" if scheme == "rediss" else ""
        return f"{scheme}://{user}:{password}@localhost:{self.port}{options}"

    def config(self, user: str) -> ReplayConfig:
        return ReplayConfig(url=self.url(user), chunk_steps=8, connect_timeout_s=2, outage_s=5)

    def client(self, user: str) -> redis.Redis:
        return redis.Redis.from_url(self.url(user), protocol=2, driver_info=None)

    def denied(self) -> list[str]:
        """What the server has refused since the last call."""
        admin = self.client("admin")
        entries = [f"{e['username']}: {e['reason']} {e['object']}" for e in admin.acl_log()]
        admin.acl_log_reset()
        return entries


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    binary = with_tls()
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here: apt-get install openssl")
    if binary is None:
        pytest.skip("no redis-server 7 with TLS here: apt-get install redis-tools")
    server = Secured(binary, tmp_path_factory.mktemp("secured"))
    try:
        deadline = time.monotonic() + 20
        while not answers(server):
            assert server.process.poll() is None, (server.directory / "log.txt").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        yield server
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)


def answers(server: Secured) -> bool:
    try:
        return bool(server.client("admin").ping())
    except redis.ConnectionError:
        return False


def entry(seq: int = 0) -> Entry:
    return Entry(id=ChunkId("s", 1, seq), episode=0, first_step=0, steps=8, source="x", policy_version=0, checksum=0)


def shard(secured: Secured, user: str, run: str) -> Shard:
    return Shard(secured.url(user), run, connect_timeout_s=2, outage_s=5)


def test_each_user_may_do_its_work(secured: Secured, run: str) -> None:
    """Nothing that our code sends is refused: the server's own record of refusals stays empty."""
    secured.denied()
    writer = ReplayWriter(secured.config("actor"), run, "s", SPEC)
    for episode in range(3):
        write(writer, make_steps(20, seed=episode))
    assert status(secured.config("actor"), run).steps == 60
    source = RedisSource(secured.config("learner"), run, SPEC)
    assert source.refresh() == 60
    batch = source.batch((0,), 4, 8)
    source.feedback(batch.windows, np.ones(4))
    learner = shard(secured, "learner", run)
    learner.report_sampled("learner0", 32)
    learner.send_hints(b"1")
    assert (learner.sampled(), len(learner.hints("0"))) == ({"learner0": 32}, 1)
    watching = shard(secured, "monitor", run)
    assert watching.counters()["chunks"] == 9
    assert len(list(watching.tail(0))) == 9
    assert (watching.sampled(), watching.state().inserted_chunks) == ({"learner0": 32}, 9)
    surveyors = {user: Surveyor(secured.url(user), run, 2, 5) for user in ("monitor", "admin")}
    look = surveyors["monitor"].see()
    assert (look.counters["steps"], look.server["aof_enabled"], look.lives) == (60, 1, {"s": 1})
    assert [stored.number for stored in surveyors["monitor"].newest(2)] == [8, 9]
    assert verify_shard(surveyors["admin"], run).damages == []
    assert surveyors["admin"].evict(1) == 1
    source.close()
    writer.close()
    assert secured.denied() == []


def test_the_limiter_works_with_few_rights(secured: Secured, run: str) -> None:
    secured.denied()
    pace = Pace(config=LimiterConfig(samples_per_insert=1, min_steps=1, slack_steps=20))
    writer = shard(secured, "actor", run)
    writer.register(SPEC)
    assert writer.commit(entry(), b"body", 2**20, pace=pace)
    learner = shard(secured, "learner", run)
    learner.draw("learner0", 8, pace)
    with pytest.raises(Held):
        learner.draw("learner0", 1000, pace)
    assert secured.denied() == []


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "CONFIG SET maxmemory 1", "DEBUG SLEEP 0", "SHUTDOWN NOSAVE",
        "REPLICAOF localhost 1", "ACL LIST", "ACL SETUSER x on", "SCRIPT FLUSH", "CLIENT KILL ID 1", "MONITOR",
        "GET other", "SET other 1", "HGETALL {other:x}:counters", "SWAPDB 0 0", "SAVE",
        "EVAL return(redis.call('FLUSHALL')) 0",
    ],
)  # fmt: skip
def test_what_nobody_may_do(secured: Secured, user: str, command: str) -> None:
    with pytest.raises(
        redis.ResponseError, match=r"no permission|ACL failure|user executing the script|DEBUG command not allowed"
    ):
        secured.client(user).execute_command(*command.split(" "))


def test_a_script_may_do_no_more_than_who_sends_it(secured: Secured, run: str) -> None:
    secured.denied()
    connection = Connection(secured.url("actor"), 2)
    for script in ("FLUSHALL", "GET', 'other", f"GET', '{{distwm:{run}}}:chunk:s/1/0"):
        with pytest.raises(BadInput, match="refused us"):
            connection.call("trying", lambda r, s=script: r.register_script(f"return redis.call('{s}')")(), 2)
    assert len(secured.denied()) == 3


def test_an_actor_reads_no_bodies_and_a_learner_commits_and_deletes_nothing(secured: Secured, run: str) -> None:
    shard(secured, "actor", run).commit(entry(), b"body", 2**20)
    prefix = f"{{distwm:{run}}}:"
    for user in ("actor", "monitor"):
        with pytest.raises(BadInput, match="refused us"):
            shard(secured, user, run).fetch([entry().id])
    for user in ("learner", "monitor"):
        with pytest.raises(BadInput, match="refused us"):
            shard(secured, user, run).commit(entry(1), b"body", 2**20)
        with pytest.raises(BadInput, match="refused us"):
            shard(secured, user, run).evict(1)
        client = secured.client(user)
        for words in (
            ("SET", prefix + "chunk:s/1/0", "x"),
            ("UNLINK", prefix + "index"),
            ("XADD", prefix + "index", "*", "a", "b"),
            ("HSET", prefix + "counters", "steps", "0"),
            ("HSET", prefix + "committed", "s/1", "9:"),
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*words)
    assert shard(secured, "learner", run).fetch([entry().id]) == [b"body"]


def _wrong_password(secured: Secured) -> str:
    return secured.url("actor", password="not-the-secret")


def _no_password(secured: Secured) -> str:
    return f"rediss://localhost:{secured.port}?ssl_ca_certs={secured.ca}"


def _unknown_user(secured: Secured) -> str:
    return secured.url("nobody", password=PASSWORDS["actor"])


def _no_tls(secured: Secured) -> str:
    return secured.url("actor", "redis")


def _no_authority(secured: Secured) -> str:
    return secured.url("actor").partition("?")[0]


def _wrong_authority(secured: Secured) -> str:
    other = secured.directory / "other"
    if not other.exists():
        subprocess.run([DEPLOY / "make-certs.sh", other, "localhost"], check=True, timeout=30)
    return secured.url("actor").replace(str(secured.ca), str(other / "ca.crt"))


def _wrong_name(secured: Secured) -> str:
    return secured.url("actor").replace("localhost", "127.0.0.1")


def _absent_authority(secured: Secured) -> str:
    return secured.url("actor").replace(str(secured.ca), "/nowhere/ca.crt")


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (_wrong_password, BadInput, "refused us .* Put the right user and password in replay.url"),
        (_no_password, BadInput, "refused us .* Put the right user and password in replay.url"),
        (_unknown_user, BadInput, "refused us .* Put the right user and password in replay.url"),
        (_no_tls, TryAgain, r"did not answer .* whether it wants TLS \(rediss://\)"),
        (_no_authority, BadInput, r"certificate .* not to be trusted: .*\?ssl_ca_certs"),
        (_wrong_authority, BadInput, r"certificate .* not to be trusted: .*\?ssl_ca_certs"),
        (_wrong_name, BadInput, r"certificate .* not to be trusted: .*\?ssl_ca_certs"),
        (_absent_authority, BadInput, "/nowhere/ca.crt"),
    ],
)
def test_what_is_wrong_fails_at_once(
    secured: Secured,
    run: str,
    make: Callable[[Secured], str],
    kind: type[DistwmError],
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = ReplayConfig(url=make(secured), connect_timeout_s=2, outage_s=60)
    for work in (
        lambda: ReplayWriter(config, run, "s", SPEC),
        lambda: RedisSource(config, run, SPEC, timeout_s=2),
        lambda: status(config, run),
    ):
        begun_s = time.monotonic()
        with caplog.at_level(logging.DEBUG), pytest.raises(kind, match=says) as raised:
            work()
        assert time.monotonic() - begun_s < 5
        for secret in (PASSWORDS["actor"], "not-the-secret"):
            assert secret not in f"{raised.value} {raised.value!r} {caplog.text}"


def test_tls_where_there_is_none(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        answer = subprocess.Popen(
            ["python3", "-c", "import socket,sys\ns=socket.socket(fileno=int(sys.argv[1]))\nc,_=s.accept()\n"
             "c.recv(99)\nc.sendall(b'-ERR unknown command\\r\\n')\nc.recv(99)", str(plain.fileno())],
            pass_fds=(plain.fileno(),),
        )  # fmt: skip
        try:
            with pytest.raises(BadInput, match="does not speak TLS"):
                Router(ReplayConfig(url=f"rediss://u:hush@127.0.0.1:{port}"), "r").register(SPEC)
        finally:
            answer.kill()
            answer.wait(timeout=10)


def test_no_process_and_no_file_of_the_server_shows_a_password(secured: Secured) -> None:
    line = Path(f"/proc/{secured.process.pid}/cmdline").read_bytes().decode()
    files = [path for path in secured.directory.rglob("*") if path.is_file()]
    assert len(files) > 5
    for password in PASSWORDS.values():
        assert password not in line
        assert not [path for path in files if password.encode() in path.read_bytes()]
    assert not (secured.directory / "users.acl").stat().st_mode & 0o077
    assert not (secured.directory / "certs" / "server.key").stat().st_mode & 0o077


@pytest.mark.parametrize("password", [None, "", "short"])
def test_users_need_long_passwords(tmp_path: Path, password: str | None) -> None:
    names = {f"REDIS_{user.upper()}_PASSWORD": PASSWORDS[user] for user in USERS}
    names |= {"REDIS_ADMIN_PASSWORD": password} if password is not None else {}
    if password is None:
        del names["REDIS_ADMIN_PASSWORD"]
    done = subprocess.run(
        [DEPLOY / "make-users.sh", tmp_path / "users.acl"],
        env={"PATH": os.environ["PATH"], **names},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "REDIS_ADMIN_PASSWORD has fewer than 16 characters. Mend: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_passwords_may_come_from_files(tmp_path: Path) -> None:
    names = {}
    for user in USERS:
        (tmp_path / user).write_text(PASSWORDS[user] + "\n")
        names[f"REDIS_{user.upper()}_PASSWORD_FILE"] = str(tmp_path / user)
    outputs = []
    for environment in (names, {f"REDIS_{user.upper()}_PASSWORD": PASSWORDS[user] for user in USERS}):
        command = [DEPLOY / "make-users.sh", tmp_path / "users.acl"]
        subprocess.run(command, env={"PATH": os.environ["PATH"], **environment}, check=True, timeout=30)
        outputs.append((tmp_path / "users.acl").read_text())
    assert outputs[0] == outputs[1]
    assert "$" not in outputs[0]


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_spool_that_others_may_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """What lies in it would be committed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = spool_root("")
    (tmp_path / "theirs").mkdir()
    root.mkdir(mode=0o700)
    assert spool_root("") == root
    root.rmdir()
    if kind == "link":
        root.symlink_to(tmp_path / "theirs")
    elif kind == "file":
        root.touch()
    else:
        root.mkdir()
        root.chmod(0o777)
    with pytest.raises(BadInput, match=r"not a directory of this user alone\. Mend: Set replay\.spool_dir"):
        spool_root("")
