"""One flat key grammar for the command line, YAML presets, Tune spaces and the saved configuration.

A configuration is a tree of frozen dataclasses. Its leaves have dotted keys (`tokenizer.optim.lr`); a field with
metadata {"flatten": True} adds no name of its own. Mappings of dataclasses (`stages`) have fixed names, mappings of
plain values (`gate`) are open. Values come as text (command line, YAML) or as Python values (Tune): both are cast by
the type of the field, and a cast that would lose something is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from distwm.casting import cast, type_name
from replay.errors import BadInput

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: its dotted key, its type, its value, and where it is declared."""

    key: str
    hint: Any
    value: Any
    owner: type  # the dataclass that declares it
    field: str


def walk(config: Any, prefix: str = "") -> Iterator[Leaf]:
    """Every leaf of a configuration, in the order of declaration."""
    for field, hint, value in _fields(config):
        key = _join(prefix, field)
        if dataclasses.is_dataclass(value):
            yield from walk(value, key)
        elif not _is_mapping(hint):
            yield Leaf(key, hint, value, type(config), field.name)
        else:
            for name, item in value.items():
                if dataclasses.is_dataclass(item):
                    yield from walk(item, f"{key}.{name}")
                else:
                    yield Leaf(f"{key}.{name}", get_args(hint)[1], item, type(config), field.name)


def leaves(config: Any) -> dict[str, Any]:
    """Value by dotted key. Raises ValueError if two fields of the tree have the same key."""
    found: dict[str, Any] = {}
    for leaf in walk(config):
        if leaf.key in found:
            raise ValueError(f"two settings are named {leaf.key!r}: one of {leaf.owner.__name__} hides another")
        found[leaf.key] = leaf.value
    return found


def apply(config: Config, given: Mapping[str, Any]) -> Config:
    """`config` with the given values. Raises BadInput for an unknown key (naming the nearest) or a wrong value."""
    known = leaves(config)
    open_keys = tuple(_open_mappings(config))
    for key in given:
        if key not in known and not key.startswith(open_keys):
            raise BadInput(f"There is no setting {key!r}.", _suggest(key, known))
    return _rebuild(config, "", given)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one flat mapping with dotted keys (which may also be dotted already)."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        flat |= flatten(value, key) if isinstance(value, Mapping) else {key: value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`, for files that people read."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, name = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[name] = value
    return tree


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fields(node: Any) -> Iterator[tuple[dataclasses.Field[Any], Any, Any]]:
    hints: dict[str, Any] = _hints(type(node))  # type: ignore[arg-type]
    for field in dataclasses.fields(node):
        yield field, hints[field.name], getattr(node, field.name)


def _join(prefix: str, field: dataclasses.Field[Any]) -> str:
    if field.metadata.get("flatten"):
        return prefix
    return f"{prefix}.{field.name}" if prefix else field.name


def _is_mapping(hint: Any) -> bool:
    return isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping)


def _open_mappings(config: Any, prefix: str = "") -> Iterator[str]:
    """Key prefixes under which any name may be set."""
    for field, hint, value in _fields(config):
        key = _join(prefix, field)
        if dataclasses.is_dataclass(value):
            yield from _open_mappings(value, key)
        elif _is_mapping(hint):
            if not dataclasses.is_dataclass(get_args(hint)[1]):
                yield f"{key}."
            for name, item in value.items():
                if dataclasses.is_dataclass(item):
                    yield from _open_mappings(item, f"{key}.{name}")


def _suggest(key: str, known: Mapping[str, Any]) -> str:
    """The valid keys nearest to a wrong one: those that look like it, or that end in the same name."""
    name = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    near += [k for k in known if k.rsplit(".", 1)[-1] == name and k not in near][: 3 - len(near)]
    if near:
        return f"Did you mean {' or '.join(near)}? --help-config lists every key."
    return "See --help-config for every key."


def _rebuild(node: Any, prefix: str, given: Mapping[str, Any]) -> Any:
    changes = {}
    for field, hint, value in _fields(node):
        new = _replaced(hint, value, _join(prefix, field), given)
        if new is not value:
            changes[field.name] = new
    if not changes:
        return node
    try:
        return dataclasses.replace(node, **changes)
    except ValueError as error:  # what a __post_init__ says of fields that do not fit together
        raise BadInput(f"{prefix or 'configuration'}: {error}.", "Change these settings so that they fit.") from error


def _replaced(hint: Any, value: Any, key: str, given: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(value):
        return _rebuild(value, key, given)
    if _is_mapping(hint):
        return _replaced_mapping(get_args(hint)[1], value, key, given)
    return _cast_key(hint, given[key], key) if key in given else value


def _replaced_mapping(hint: Any, value: Mapping[str, Any], key: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(hint):
        return {name: _rebuild(item, f"{key}.{name}", given) for name, item in value.items()}
    added = {k[len(key) + 1 :]: _cast_key(hint, v, k) for k, v in given.items() if k.startswith(f"{key}.")}
    return {**value, **added} if added else value


def _cast_key(hint: Any, value: Any, key: str) -> Any:
    try:
        return cast(hint, value)
    except ValueError as error:
        raise BadInput(f"{key}: {error}.", f"Give {key} a value of type {type_name(hint)}.") from error
