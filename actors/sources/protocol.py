"""What client and server say to each other: openpi's messages, and ours where both sides are distwm's.

    server  metadata, once                      {..., "distwm": {"version": 1, "spec": {...}}}
    client  observation, after each answer      {"observation/image": ..., "prompt": "..."}
    server  actions                             {"actions": (T, A), "server_timing": {...}, "policy_timing": {...}}
    server  a text frame instead, and closes    what went wrong

openpi's servers do not say what they read, so LIBERO's names are spoken to them, and nothing else. Ours say so in the
metadata; they are told the fields by their own names, and what else a request holds under "distwm". They take LIBERO's
names too, from clients that know no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from actors.sources.check import check_fields
from actors.sources.errors import BadAnswer
from actors.sources.pictures import resize_with_pad
from actors.sources.source import ANY, Request, SourceSpec
from replay.errors import BadInput
from replay.schema import FieldSpec

VERSION = 1
KEY = "distwm"
NUMBERS = ("episode", "step", "seed", "number")
LIBERO = {"agentview": "observation/image", "wrist": "observation/wrist_image", "proprio": "observation/state"}
_MEND = "Serve it with the version of distwm that asks for it."


def libero_fields(size: int) -> tuple[FieldSpec, ...]:
    """What openpi's LIBERO policies read, with pictures of size x size."""
    shapes = {"agentview": (size, size, 3), "wrist": (size, size, 3), "proprio": (8,)}
    return tuple(
        FieldSpec(name=name, shape=shape, dtype="float32" if name == "proprio" else "uint8", role="observation")
        for name, shape in shapes.items()
    )


def of_any_size(fields: tuple[FieldSpec, ...]) -> tuple[FieldSpec, ...]:
    """As a client shows them to its callers: it makes pictures fit itself."""
    return tuple(replace(f, shape=(ANY, ANY, 3)) if is_picture(f) else f for f in fields)


def is_picture(field: FieldSpec) -> bool:
    return field.dtype == "uint8" and len(field.shape) == 3 and field.shape[2] == 3


def metadata_out(spec: SourceSpec) -> dict[str, Any]:
    return {KEY: {"version": VERSION, "spec": asdict(spec)}}


def spec_in(metadata: Any, who: str) -> SourceSpec | None:
    """None if the server is not ours. Raises BadAnswer."""
    if not isinstance(metadata, dict):
        raise BadAnswer(
            f"{who} began with {type(metadata).__name__}, not with metadata.", "Give a policy server's url."
        )
    found = metadata.get(KEY)
    if found is None:
        return None
    try:
        if found["version"] != VERSION:
            raise BadAnswer(f"{who} speaks version {found['version']} of our protocol, not {VERSION}.", _MEND)
        fields = tuple(
            FieldSpec(name=str(f["name"]), shape=tuple(map(int, f["shape"])), dtype=str(f["dtype"]), role="observation")
            for f in found["spec"]["fields"]
        )
        return SourceSpec(**found["spec"] | {"fields": fields})
    except (TypeError, LookupError, ValueError) as error:
        raise BadAnswer(f"{who} says nothing sensible of its source: {error}.", _MEND) from error


def request_out(request: Request, fields: tuple[FieldSpec, ...], ours: bool, who: str) -> dict[str, Any]:
    """With pictures made to fit `fields`. Raises BadInput for an observation that lacks any of them."""
    check_fields(request.fields, of_any_size(fields), who)
    message: dict[str, Any] = {}
    for field in fields:
        values = request.fields[field.name]
        if is_picture(field) and ANY not in field.shape:
            values = resize_with_pad(values, *field.shape[:2])
        message[field.name if ours else LIBERO[field.name]] = values
    message["prompt"] = request.prompt
    if ours:
        message[KEY] = {name: getattr(request, name) for name in (*NUMBERS, "executed")}
    return message


def request_in(message: Any, spec: SourceSpec) -> Request:
    """Fields of our names or of LIBERO's; without the rest, the request is the first one of episode 0 with seed 0.

    Raises BadInput for an observation that is not as the spec wants it.
    """
    mend = "Send a map of arrays, and the task's words as 'prompt'."
    if not isinstance(message, dict):
        raise BadInput(f"A request was {type(message).__name__}.", mend)
    fields = {f.name: _field(message, f) for f in spec.fields if f.name in message or LIBERO.get(f.name) in message}
    check_fields(fields, spec.fields, "This server")
    prompt, rest = message.get("prompt", ""), message.get(KEY, {})
    if not isinstance(prompt, str) or not isinstance(rest, dict):
        raise BadInput("The prompt of a request was no text.", mend)
    executed = rest.get("executed", np.zeros((0, spec.action_dim), np.float32))
    if not isinstance(executed, np.ndarray) or executed.shape[1:] != (spec.action_dim,):
        raise BadInput("The executed actions of a request are none of this robot.", "Send (k, A) float32.")
    numbers = {name: rest.get(name, 0) for name in NUMBERS}
    if not all(type(number) is int and number >= 0 for number in numbers.values()):
        raise BadInput(f"A request has the numbers {numbers}.", "Send whole numbers, 0 or more.")
    return Request(fields=fields, prompt=prompt, executed=executed, **numbers)


def answer_in(message: Any, who: str) -> tuple[Any, float]:
    """The actions, unchecked, and the seconds of thinking (nan if it does not say). Raises BadAnswer."""
    if not isinstance(message, Mapping) or "actions" not in message:
        keys = sorted(map(str, message)) if isinstance(message, Mapping) else type(message).__name__
        raise BadAnswer(f"{who} answered without actions: {keys}.", "Give a policy server's url.")
    for timing in (message.get("policy_timing"), message.get("server_timing")):
        found = timing.get("infer_ms") if isinstance(timing, Mapping) else None
        if isinstance(found, (int, float)) or (isinstance(found, np.number) and found.ndim == 0):
            return message["actions"], float(found) / 1e3
    return message["actions"], float("nan")


def _field(message: dict[str, Any], field: FieldSpec) -> np.ndarray:
    """Numbers in the dtype that is wanted: openpi's example sends LIBERO's state as float64."""
    values = message[field.name] if field.name in message else message[LIBERO[field.name]]
    if not isinstance(values, np.ndarray):
        raise BadInput(f"{field.name!r} of a request was {type(values).__name__}.", "Send an array.")
    return values.astype(field.dtype) if values.dtype.kind == "f" and field.dtype == "float32" else values
