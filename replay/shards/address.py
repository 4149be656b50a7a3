"""The address of a Redis as a person writes it: with the secret left to the environment, and shown without it."""

from __future__ import annotations

import os
import re
import socket
from urllib.parse import parse_qsl, quote, urlsplit

from replay.errors import BadInput

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_PORT = re.compile(r"\d*|[^:]*\]")  # what may follow the last colon of host:port and of [ipv6]

_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_PUBLIC = (*_FILES, "db", "ssl_check_hostname")


def addresses(urls: str) -> list[str]:
    """The servers of `replay.url`, which separates them by commas, ready to connect to.

    `$NAME` is this process's own environment variable: so no secret travels from process to process, and actors and
    learners can be different users. In front of the last @ it stands for the bare name or password, which may have any
    characters; elsewhere for a piece of the address, or for all of it. Raises BadInput if it is not set here, or if a
    file of certificates cannot be read.
    """
    filled = ",".join(_fill(url.strip()) for url in urls.split(","))
    found = [url for part in filled.split(",") if (url := part.strip())]
    for url in found:
        _check_files(url)
    return found


def redact(url: str) -> str:
    """The url without its password and its query, for logs and messages. A `$NAME` is no secret and stays."""
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    user, at, place = rest.rpartition("@")
    name, colon, secret = user.partition(":")
    if secret and not _VARIABLE.fullmatch(secret):
        secret = "***"
    place = place.partition("?")[0]
    host, port_colon, port = place.partition("/")[0].rpartition(":")
    if port_colon and not at and not _PORT.fullmatch(port):  # a password whose @ is missing
        place = f"{host}:***"
    return f"{scheme}{slashes}{name}{colon}{secret}{at}{place}"


def public(url: str) -> str:
    """`redact`, but with those options of the query that are no secrets: what a run may note down and go on with."""
    options = url.rpartition("@")[2].partition("?")[2].split("&")
    kept = [option for option in options if option.partition("=")[0] in _PUBLIC]
    return redact(url) + ("?" + "&".join(kept) if kept else "")


def _fill(url: str) -> str:
    user, at, place = url.rpartition("@")

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise BadInput(
                f"replay.url names ${name}, which is not set in this process on {socket.gethostname()}.",
                f"Export {name} wherever the run has processes: on a cluster in the environment of every node.",
            )
        return quote(os.environ[name], safe="") if match.start() < len(user) else os.environ[name]

    return _VARIABLE.sub(value, user + at + place)


def _check_files(url: str) -> None:
    for name, value in parse_qsl(urlsplit(url).query):
        if name in _FILES and not os.access(value, os.R_OK):
            raise BadInput(
                f"replay.url has {name}={value}, which cannot be read on {socket.gethostname()}.",
                "Put the file there, wherever the run has processes, or give its right path.",
            )
