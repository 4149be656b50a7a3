"""The protocol with one Redis: commit a chunk once, tail the index, fetch bodies. Nothing else knows the keys.

Keys of a run, all under one hash tag, so that a script may touch them together on a cluster too:

    {distwm:<run>}:chunk:<id>    the body of a chunk (codec.py)
    {distwm:<run>}:index         stream, one entry a chunk, in the order of the commits
    {distwm:<run>}:counters      hash: steps, bytes, chunks, episodes stored now; inserted_steps ever
    {distwm:<run>}:committed     hash: "stream/incarnation" -> last sequence number
    {distwm:<run>}:incarnations  hash: stream -> number of lives so far
    {distwm:<run>}:spec          JSON of the episode spec

A commit is one script: it makes room by dropping the oldest chunks, index entry before body, and adds the new one. The
script runs as a whole or not at all, also in the append-only file, so the index never names a body that is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from replay.check import check_spec
from replay.connection import Connection
from replay.errors import BadInput
from replay.schema import ChunkId, Entry, EpisodeSpec

_T = TypeVar("_T")
Cursor = tuple[int, int]  # a stream id of Redis: milliseconds, number

# What a chunk costs besides its body: the index entry, the key and the allocator's share, about half a kilobyte.
OVERHEAD_BYTES = 512
_PAGE = 1000
_COMMIT = """
local index, counters, committed, chunk = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local prefix, life, seq, max_bytes, size = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local body, id, episode, first_step, steps, source, version, checksum = unpack(ARGV, 6)

local function count(sign, size, steps, first_step)
    redis.call('HINCRBY', counters, 'chunks', sign)
    redis.call('HINCRBY', counters, 'bytes', sign * size)
    redis.call('HINCRBY', counters, 'steps', sign * steps)
    if tonumber(first_step) == 0 then redis.call('HINCRBY', counters, 'episodes', sign) end
end

if tonumber(redis.call('HGET', committed, life) or -1) >= seq then return 0 end
while tonumber(redis.call('HGET', counters, 'bytes') or 0) + size > max_bytes do
    local oldest = redis.call('XRANGE', index, '-', '+', 'COUNT', 1)[1]
    if not oldest then break end
    local entry = {}
    for i = 1, #oldest[2], 2 do entry[oldest[2][i]] = oldest[2][i + 1] end
    redis.call('XDEL', index, oldest[1])
    redis.call('UNLINK', prefix .. 'chunk:' .. entry.id)
    count(-1, entry.bytes, entry.steps, entry.first_step)
end
redis.call('SET', chunk, body)
redis.call('XADD', index, '*', 'id', id, 'episode', episode, 'first_step', first_step, 'steps', steps,
           'bytes', size, 'source', source, 'policy_version', version, 'checksum', checksum)
redis.call('HSET', committed, life, seq)
redis.call('HINCRBY', counters, 'inserted_steps', steps)
count(1, size, steps, first_step)
return 1
"""


class Shard:
    """One Redis. Every method waits up to `outage_s` for it, then raises TryAgain."""

    def __init__(self, url: str, run: str, connect_timeout_s: float, outage_s: float) -> None:
        """Connects. Raises TryAgain after `connect_timeout_s`, BadInput for a server that may not hold experience."""
        if not re.fullmatch(r"[A-Za-z0-9._-]+", run):
            raise BadInput(f"The run is called {run!r}.", "Use letters, digits, dot, dash and underscore alone.")
        self._connection = Connection(url, connect_timeout_s)
        self.name = self._connection.name
        self._prefix = f"{{distwm:{run}}}:"
        self._outage_s = outage_s
        memory = self._connection.call("connecting", lambda r: r.info("memory"), connect_timeout_s)
        policy = memory.get("maxmemory_policy", "noeviction")
        if memory.get("maxmemory", 0) and policy != "noeviction":
            raise BadInput(
                f"Redis at {self.name} deletes experience by itself (maxmemory-policy {policy}).",
                "Run there: redis-cli config set maxmemory-policy noeviction",
            )

    def register(self, spec: EpisodeSpec) -> None:
        """Makes `spec` the run's, or raises BadInput if the run has another one."""
        check_spec(spec)
        mine = {f["name"]: f for f in json.loads(json.dumps([asdict(f) for f in spec.fields]))}

        def command(r: Any) -> bytes:
            r.set(self._key("spec"), json.dumps(list(mine.values())), nx=True)
            return r.get(self._key("spec"))

        theirs = {f["name"]: f for f in json.loads(self._call("registering the episode spec", command))}
        if list(mine.values()) != list(theirs.values()):
            names = [n for n in {**theirs, **mine} if mine.get(n) != theirs.get(n)] or ["the order of the fields"]
            raise BadInput(
                f"The run at {self.name} has another episode spec: {names[0]} is "
                f"{theirs.get(names[0])} there and {mine.get(names[0])} here.",
                "Use the environment settings that the run began with, or start another run.",
            )

    def new_incarnation(self, stream: str) -> int:
        """1, 2, 3, ...: a number that no earlier life of the stream had."""
        return int(self._call("starting a stream", lambda r: r.hincrby(self._key("incarnations"), stream, 1)))

    def commit(self, entry: Entry, body: bytes, max_bytes: int) -> bool:
        """Stores a chunk; True if it is new, False if it was stored before: both mean that Redis has acknowledged it.

        Makes room first: afterwards the stored chunks, each with OVERHEAD_BYTES, fit into `max_bytes`. The chunks of
        one incarnation must come in the order of their numbers. Raises BadInput if Redis has no memory for the budget.
        """
        size = len(body) + OVERHEAD_BYTES
        if size > max_bytes:
            raise BadInput(
                f"Chunk {entry.id} takes {size} bytes of a budget of {max_bytes}.",
                "Raise replay.max_bytes or lower replay.chunk_steps.",
            )
        if (new := self._commit(entry, body, size, max_bytes)) is None:
            stored = self.counters().get("bytes", 0)  # the server's own limit lies below the budget: give up a tenth
            new = self._commit(entry, body, size, max(stored * 9 // 10, size))
        if new is None:
            raise BadInput(
                f"Redis at {self.name} has no memory for chunk {entry.id}.",
                f"Lower replay.max_bytes (now {max_bytes} for this server) or raise its maxmemory.",
            )
        return new

    def tail(self, after: Cursor) -> Iterator[tuple[Cursor, Entry]]:
        """Index entries later than `after`, in the order of the commits."""
        while True:
            start = f"({after[0]}-{after[1]}"
            page = self._page(start, _PAGE)
            for stream_id, fields in page:
                after = _cursor(stream_id)
                yield after, _entry(fields)
            if len(page) < _PAGE:
                return

    def oldest(self) -> Cursor | None:
        """Where the index begins now: what came before is evicted. None if it is empty."""
        page = self._page("-", 1)
        return _cursor(page[0][0]) if page else None

    def fetch(self, ids: Sequence[ChunkId]) -> list[bytes | None]:
        """Bodies, None for those evicted."""
        keys = [self._key(f"chunk:{i}") for i in ids]
        return self._call(f"fetching {len(keys)} chunks", lambda r: r.mget(keys)) if keys else []

    def counters(self) -> dict[str, int]:
        """steps, bytes, chunks, episodes, inserted_steps; and streams."""

        def command(r: Any) -> tuple[dict[bytes, bytes], int]:
            return r.hgetall(self._key("counters")), r.hlen(self._key("incarnations"))

        counted, streams = self._call("reading the counters", command)
        return {name.decode(): int(value) for name, value in counted.items()} | {"streams": int(streams)}

    def close(self) -> None:
        self._connection.close()

    def _commit(self, entry: Entry, body: bytes, size: int, max_bytes: int) -> bool | None:
        """Whether the chunk is new; None if the server is out of memory."""
        keys = [self._key(k) for k in ("index", "counters", "committed", f"chunk:{entry.id}")]
        args = [self._prefix, f"{entry.id.stream}/{entry.id.incarnation}", entry.id.seq, max_bytes, size, body]
        args += [str(entry.id), entry.episode, entry.first_step, entry.steps]
        args += [entry.source, entry.policy_version, entry.checksum]

        def command(r: Any) -> bool:  # sends the script's hash; its text only to a server that does not know it
            return bool(r.register_script(_COMMIT)(keys, args))

        try:
            return self._call(f"committing chunk {entry.id}", command)
        except ResponseError as error:
            if re.search(r"\bOOM\b|out of memory|used memory > 'maxmemory'", str(error)):
                return None
            raise

    def _page(self, start: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return self._call("reading the index", lambda r: r.xrange(self._key("index"), start, "+", count))

    def _call(self, doing: str, command: Callable[[Any], _T]) -> _T:
        return self._connection.call(doing, command, self._outage_s)

    def _key(self, name: str) -> str:
        return self._prefix + name


def _cursor(stream_id: bytes) -> Cursor:
    milliseconds, _, number = stream_id.partition(b"-")
    return int(milliseconds), int(number)


def _entry(fields: dict[bytes, bytes]) -> Entry:
    stream, incarnation, seq = fields[b"id"].decode().rsplit("/", 2)
    return Entry(
        id=ChunkId(stream, int(incarnation), int(seq)),
        episode=int(fields[b"episode"]),
        first_step=int(fields[b"first_step"]),
        steps=int(fields[b"steps"]),
        source=fields[b"source"].decode(),
        policy_version=int(fields[b"policy_version"]),
        checksum=int(fields[b"checksum"]),
    )
