#!/usr/bin/env bash
# Serves a shard from this directory's redis.conf, and syncs what it writes once a second.
#   ./serve.sh [--bind 10.0.0.5 --maxmemory 16gb ...]      like redis-server redis.conf, in the directory of the data
# Redis writes each command before it acknowledges it, so a kill of Redis loses nothing; the sync bounds what a power cut
# may cost to the last 2 s. Redis's own `appendfsync everysec` does the second and not the first: while it syncs, it
# acknowledges for up to 2 s what it has not written.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v redis-server >/dev/null; then
    echo "serve.sh: there is no redis-server. Mend: apt-get install redis-server" >&2
    exit 3
fi
while kill -0 $$ 2>/dev/null; do # $$ will be Redis
    sync -d appendonlydir/*.aof 2>/dev/null || true
    sleep 1
done &
exec redis-server "$here/redis.conf" "$@"
