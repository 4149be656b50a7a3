"""The protocol with one Redis: commit a chunk once, tail the index, fetch bodies. Nothing else knows the keys.

Keys of a run, all under one hash tag, so that a script may touch them together on a cluster too:

    {distwm:<run>}:chunk:<id>    the body of a chunk (codec.py)
    {distwm:<run>}:index         stream, one entry a chunk, in the order of the commits; entry n-1 is the n-th chunk
    {distwm:<run>}:counters      hash: steps, bytes, chunks, episodes stored now; inserted_steps, inserted_chunks ever
    {distwm:<run>}:committed     hash: "stream/incarnation" -> "last sequence number:token of the life"
    {distwm:<run>}:incarnations  hash: stream -> number of its newest life
    {distwm:<run>}:sampled       hash: consumer -> steps that it has drawn
    {distwm:<run>}:elsewhere     hash: another shard -> steps inserted there, as a learner saw it lately
    {distwm:<run>}:hints         stream, capped: priorities that learners write back
    {distwm:<run>}:spec          JSON of the episode spec
    {distwm:<run>}:epoch         a random token: this data set, and no other

A commit is one script (scripts.py): it makes room by dropping the oldest chunks, index entry before body, and adds the
new one. The index never names a body that is not there.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from redis.exceptions import NoPermissionError

from replay.check import check_same, check_spec
from replay.config import Durability
from replay.errors import BadInput, ExperienceLost
from replay.schema import ChunkId, Entry, EpisodeSpec
from replay.shards import scripts
from replay.shards.commit import DROPS, LOSS_MEND, OVERHEAD_BYTES, Claim, Pace, arguments, verdict
from replay.shards.connection import Connection, NoMemory
from replay.shards.limiter import Held, Limiter
from replay.shards.replies import cursor_of, entry_of, numbers_of

_T = TypeVar("_T")

_PAGE = 1000
_HINTS = 1000  # entries
_LATELY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardState:
    """Of one look. Chunks are counted from 1 in the order of their commits, those evicted since included."""

    epoch: str  # empty: nobody has registered
    inserted_chunks: int
    oldest: int  # number of the oldest chunk still stored; inserted_chunks + 1 if none is


class Shard:
    """One Redis. Connects when first needed. Every method waits up to `outage_s` for it, then raises TryAgain."""

    def __init__(self, url: str, run: str, connect_timeout_s: float, outage_s: float) -> None:
        """`connect_timeout_s` is the longest silence of the server before it counts as away."""
        if not re.fullmatch(r"[A-Za-z0-9._-]+", run):
            raise BadInput(f"The run is called {run!r}.", "Use letters, digits, dot, dash and underscore alone.")
        self._connection = Connection(url, connect_timeout_s)
        self.name = self._connection.name
        self._prefix = f"{{distwm:{run}}}:"
        self._connect_timeout_s, self.outage_s = connect_timeout_s, outage_s
        self._scripts: dict[str, Any] = {}  # by their text
        self._seen: dict[int, Entry] = {}  # the last entry that `tail` gave out, by its number

    @property
    def away_since(self) -> float | None:
        """When this process found the server away (time.monotonic()); None while it answers."""
        return self._connection.health.away_since

    @property
    def failed_lately(self) -> bool:
        """Whether it is away as far as this process knows, and that not long ago."""
        return self.away_since is not None and time.monotonic() - self._connection.health.failed_s < _LATELY_S

    def connect(self, durability: Durability = "none", patience_s: float | None = None) -> None:
        """Raises TryAgain after `patience_s` (None: `connect_timeout_s`), BadInput for a server that may not hold
        experience. Logs a warning if it, as far as it lets us see, will forget more than `durability` says."""
        info = self._connection.call("connecting", _info, self._connect_timeout_s if patience_s is None else patience_s)
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory", 0) and policy != "noeviction":
            raise BadInput(
                f"Redis at {self.name} deletes experience by itself (maxmemory-policy {policy}).",
                "Run there: redis-cli config set maxmemory-policy noeviction",
            )
        if durability != "none" and info.get("aof_enabled", 1) == 0:
            self._connection.health.warn(
                f"keeps experience in memory only, though replay.durability is {durability}: what it acknowledges is "
                "lost when it ends. Run there: redis-cli config set appendonly yes"
            )

    def register(self, spec: EpisodeSpec) -> str:
        """Makes `spec` the run's, or raises BadInput if the run has another one. Returns the epoch: a random token that
        is made once per run and shard. Another one, or none, later on means that the experience is another one."""
        check_spec(spec)

        def command(r: Any) -> tuple[bytes, bytes]:
            r.set(self._key("spec"), json.dumps([asdict(f) for f in spec.fields]), nx=True)
            r.set(self._key("epoch"), secrets.token_hex(8), nx=True)
            return r.mget(self._key("spec"), self._key("epoch"))

        stored, epoch = self._call("registering the episode spec", command)
        check_same(spec, json.loads(stored), f"The run at {self.name}")
        return epoch.decode()

    def newest_life(self, stream: str) -> int:
        """The number of the stream's newest life; 0 if it has had none."""
        return int(self._call("reading the lives", lambda r: r.hget(self._key("incarnations"), stream)) or 0)

    def begin_life(self, stream: str, incarnation: int, token: str) -> bool:
        """Gives the stream a life of this number; False if the shard knows that one or a later one. `token` is empty
        on shards that will not hold its chunks."""
        keys = [self._key("incarnations"), self._key("committed")]
        newest = self._script("starting a stream", scripts.BEGIN_LIFE, keys, [stream, incarnation, token])
        return int(newest) == 0

    def commit(
        self,
        entry: Entry,
        body: bytes,
        max_bytes: int,
        claim: Claim | None = None,
        pace: Pace | None = None,
        patience_s: float | None = None,
    ) -> bool:
        """Stores a chunk; True if it is new, False if it was stored before: both mean that Redis has acknowledged it.

        Makes room first: afterwards the stored chunks, each with OVERHEAD_BYTES, fit into `max_bytes`. The chunks of
        one life must come in the order of their numbers. Raises BadInput if Redis has no memory for the budget,
        ExperienceLost if the server cannot meet `claim`, Held if the limiter does not take the chunk yet, TryAgain
        after `patience_s` (None: `outage_s`).
        """
        reply = self._commit(entry, arguments(self._prefix, entry, body, max_bytes, claim, pace), patience_s)
        if reply is None:
            stored = self.counters(patience_s).get("bytes", 0)  # its own limit lies below the budget: give up a tenth
            fits = max(stored * 9 // 10, len(body) + OVERHEAD_BYTES)
            reply = self._commit(entry, arguments(self._prefix, entry, body, fits, claim, pace), patience_s)
        if reply is None:
            raise BadInput(
                f"Redis at {self.name} has no memory for chunk {entry.id}.",
                f"Lower replay.max_bytes (now {max_bytes} for this server) or raise its maxmemory.",
            )
        return verdict(reply, entry, pace, self.name, claim)

    def state(self) -> ShardState:
        """What a reader compares with what it knows, in one round trip."""

        def command(r: Any) -> list[Any]:
            pipe = r.pipeline(transaction=False)  # a transaction is refused where memory is full, even to readers
            pipe.get(self._key("epoch"))
            pipe.hget(self._key("counters"), "inserted_chunks")
            pipe.xrange(self._key("index"), "-", "+", 1)
            return pipe.execute()

        epoch, inserted, oldest = self._call("looking at the replay", command)
        chunks = int(inserted or 0)
        return ShardState(
            epoch=(epoch or b"").decode(),
            inserted_chunks=chunks,
            oldest=cursor_of(oldest[0][0]) if oldest else chunks + 1,
        )

    def tail(self, after: int) -> Iterator[tuple[int, Entry]]:
        """Index entries later than number `after`, in the order of the commits, with their numbers.

        Raises ExperienceLost if entry `after`, when it was the last that this client saw, is another one now.
        """
        while True:
            page = [(cursor_of(i), entry_of(fields)) for i, fields in self._page(f"{after}-0", _PAGE)]
            known = self._seen.get(after)
            if known and ((page and page[0][0] == after and page[0][1] != known) or self._behind(page, after)):
                raise self._rewound(known)
            for cursor, entry in page:
                if cursor > after:
                    self._seen = {cursor: entry}
                    yield cursor, entry
                    after = cursor
            if len(page) < _PAGE:
                return

    def fetch(self, ids: Sequence[ChunkId]) -> list[bytes | None]:
        """Bodies, None for those evicted."""
        keys = [self._key(f"chunk:{i}") for i in ids]
        return self._call(f"fetching {len(keys)} chunks", lambda r: r.mget(keys)) if keys else []

    def counters(self, patience_s: float | None = None) -> dict[str, int]:
        """steps, bytes, chunks, episodes, inserted_steps, inserted_chunks; and streams."""

        def command(r: Any) -> tuple[dict[bytes, bytes], int]:
            return r.hgetall(self._key("counters")), r.hlen(self._key("incarnations"))

        counted, streams = self._call("reading the counters", command, patience_s)
        return numbers_of(counted) | {"streams": int(streams)}

    def draw(self, consumer: str, total: int, pace: Pace, patience_s: float | None = None) -> None:
        """Counts that `consumer` will have drawn `total` steps, or raises Held if the limiter does not allow it yet."""
        keys = [self._key("counters"), self._key("sampled")]
        reply = self._script("asking the limiter", scripts.DRAW, keys, [consumer, total, *pace.args], patience_s)
        if not reply[0]:
            _, inserted, drawn, mine = reply
            raise Held(Limiter(pace.config).may_sample(inserted, drawn, total - mine).reason, inserted, drawn - mine)

    def report_sampled(self, consumer: str, steps: int, patience_s: float | None = None) -> None:
        """Says how many steps `consumer` has drawn since the run began."""
        self._call("counting samples", lambda r: r.hset(self._key("sampled"), consumer, steps), patience_s)

    def sampled(self, patience_s: float | None = None) -> dict[str, int]:
        """Steps drawn so far, by consumer."""
        return numbers_of(self._call("reading the samples", lambda r: r.hgetall(self._key("sampled")), patience_s))

    def note_elsewhere(self, inserted: Mapping[str, int]) -> dict[str, int]:
        """Says how many steps other shards, by name, have taken; returns all that was said so far. One attempt."""

        def command(r: Any) -> dict[bytes, bytes]:
            if inserted:
                r.hset(self._key("elsewhere"), mapping=dict(inserted))
            return r.hgetall(self._key("elsewhere"))

        return numbers_of(self._call("noting what other shards count", command, patience_s=0))

    def send_hints(self, payload: bytes) -> None:
        """Priorities for whoever reads `hints`. The oldest are forgotten."""
        key = self._key("hints")
        self._call("sending hints", lambda r: r.xadd(key, {"p": payload}, maxlen=_HINTS, approximate=True))

    def hints(self, after: str) -> list[tuple[str, bytes]]:
        """(id, payload) of what was sent later than id `after`; "0" is before everything."""
        page = self._call("reading hints", lambda r: r.xrange(self._key("hints"), f"({after}"))
        return [(stream_id.decode(), fields[b"p"]) for stream_id, fields in page]

    def evict(self, bytes_: int) -> int:
        """Drops the oldest chunks until `bytes_` are free or nothing is left; returns how many went."""
        keys, gone, freed = [self._key("index"), self._key("counters")], 0, 0
        while freed < bytes_:
            reply = self._script("evicting", scripts.EVICT, keys, [self._prefix, bytes_ - freed, DROPS])
            if not reply[0]:
                break
            gone, freed = gone + reply[0], freed + reply[1]
        return gone

    def close(self) -> None:
        self._connection.close()

    def _commit(self, entry: Entry, args: list[Any], patience_s: float | None) -> list[int] | None:
        """The script's reply; None if the server is out of memory."""
        keys = [self._key(k) for k in ("index", "counters", "committed", "epoch", "sampled", f"chunk:{entry.id}")]
        try:
            while True:
                reply = self._script(f"committing chunk {entry.id}", scripts.COMMIT, keys, args, patience_s)
                if reply[0] != scripts.CROWDED:
                    return reply
        except NoMemory:
            return None

    def _behind(self, page: list[tuple[int, Entry]], after: int) -> bool:
        return not page and self.state().inserted_chunks < after

    def _rewound(self, known: Entry) -> ExperienceLost:
        return ExperienceLost(f"Redis at {self.name} came back without chunk {known.id}, which it had.", LOSS_MEND)

    def _page(self, start: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        return self._call("reading the index", lambda r: r.xrange(self._key("index"), start, "+", count))

    def _script(
        self, doing: str, text: str, keys: Sequence[str], args: Sequence[Any], patience_s: float | None = None
    ) -> Any:
        # Sends the script's hash; its text only to a server that does not know it.
        def command(r: Any) -> Any:
            script = self._scripts.get(text) or self._scripts.setdefault(text, r.register_script(text))
            return script(keys, args, client=r)

        return self._call(doing, command, patience_s)

    def _call(self, doing: str, command: Callable[[Any], _T], patience_s: float | None = None) -> _T:
        return self._connection.call(doing, command, self.outage_s if patience_s is None else patience_s)

    def _key(self, name: str) -> str:
        return self._prefix + name


def _info(r: Any) -> dict[str, Any]:
    try:
        return r.info("memory") | r.info("persistence")
    except NoPermissionError:  # not ours to see
        return {}
