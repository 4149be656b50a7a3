#!/usr/bin/env bash
# A certificate authority and a server's certificate, for tests and small clusters. A place with an authority of its own
# uses that one.
#   ./make-certs.sh DIRECTORY NAME...     the names and addresses by which clients reach the server
# Makes ca.crt (give it to every client), ca.key (keep it), server.crt and server.key (of this server). An authority that
# is there already is used again, so that one more server changes nothing for the clients.
set -euo pipefail
umask 077
if (($# < 2)); then
    echo "make-certs.sh: no names. Mend: ./make-certs.sh certs redis-1.internal 10.0.0.5" >&2
    exit 2
fi
if ! command -v openssl >/dev/null; then
    echo "make-certs.sh: there is no openssl. Mend: apt-get install openssl" >&2
    exit 3
fi
mkdir -p "$1"
cd "$1"
shift

alternatives=()
for name in "$@"; do
    if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then
        alternatives+=("IP:$name")
    else
        alternatives+=("DNS:$name")
    fi
done
names=$(IFS=,; echo "${alternatives[*]}")
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

quietly() { # openssl prints dots when all is well
    local said
    said=$(openssl "$@" 2>&1) || { echo "$said" >&2; exit 1; }
}

if [[ ! -e ca.key ]]; then
    quietly req -x509 "${key[@]}" -keyout ca.key -out ca.crt -days 3650 -subj "/CN=distwm replay authority" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign"
fi
quietly req "${key[@]}" -keyout server.key -out server.csr -subj "/CN=${1:0:64}"
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$names" >server.ext
quietly x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -extfile server.ext \
    -out server.crt
rm server.csr server.ext
chmod 644 ca.crt server.crt
echo "certificates for $names in $PWD"
