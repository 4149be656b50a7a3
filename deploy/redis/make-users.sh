#!/usr/bin/env bash
# The users of a shard, from the template users.acl and passwords of the environment.
#   REDIS_ACTOR_PASSWORD=... REDIS_LEARNER_PASSWORD=... ... ./make-users.sh OUTPUT
# For each of ACTOR, LEARNER, MONITOR and ADMIN: REDIS_<USER>_PASSWORD, or REDIS_<USER>_PASSWORD_FILE, a file that holds it.
# What is written holds SHA-256 sums and no password. The sums have no salt: take long random ones (openssl rand -hex 32).
set -euo pipefail
umask 077
if (($# != 1)); then
    echo "make-users.sh: no output file. Mend: ./make-users.sh OUTPUT" >&2
    exit 2
fi
rules=$(grep -v '^#' "$(dirname "${BASH_SOURCE[0]}")/users.acl")
for user in ACTOR LEARNER MONITOR ADMIN; do
    name=REDIS_${user}_PASSWORD file=REDIS_${user}_PASSWORD_FILE
    password=${!name:-}
    [[ -z ${!file:-} ]] || password=$(<"${!file}")
    if ((${#password} < 16)); then
        echo "make-users.sh: $name has fewer than 16 characters. Mend: export $name=\$(openssl rand -hex 32)" >&2
        exit 2
    fi
    sum=$(printf %s "$password" | sha256sum | cut -d' ' -f1) # printf is the shell's own: no process shows the password
    rules=${rules//"\$${user}_SHA256"/$sum}
done
printf '%s\n' "$rules" >"$1.tmp"
mv "$1.tmp" "$1"
