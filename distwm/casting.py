"""Text and Python values as typed settings: strict, and never with a loss."""

from __future__ import annotations

import difflib
import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

NONE_WORDS = ("", "none", "null")


def as_text(value: Any) -> str:
    """A value as it is typed on the command line; `apply` reads it back exactly."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ",".join(as_text(item) for item in value) + "]"
    return str(value)


def cast(hint: Any, value: Any) -> Any:
    """`value`, text or not, as the type `hint`. Raises ValueError if it is of another type or would lose something."""
    value = value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _cast_choice(options, value)
    if origin in (Union, UnionType):
        return _cast_union(options, value)
    if origin is tuple:
        return _cast_tuple(options, value)
    if hint is bool:
        return _cast_bool(value)
    if hint is int:
        return _cast_int(value)
    if hint is float:
        return _cast_float(value)
    if hint is str and isinstance(value, str):
        return value
    raise ValueError(f"expected {type_name(hint)}, got {value!r}")


def type_name(hint: Any) -> str:
    """A type as the help prints it: `int`, `float | None`, `extend | strict | off`, `[int, ...]`."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " | ".join(str(option) for option in options)
    if origin in (Union, UnionType):
        return " | ".join(type_name(option) for option in options)
    if origin is tuple:
        return "[" + ", ".join("..." if option is Ellipsis else type_name(option) for option in options) + "]"
    return "none" if hint is NoneType else getattr(hint, "__name__", str(hint))


def _cast_bool(value: Any) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(f"expected true or false, got {value!r}")


def _cast_int(value: Any) -> int:
    number = value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            number = _cast_float(value)
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not math.isfinite(number)
        or number != int(number)
    ):
        raise ValueError(f"expected a whole number, got {value!r}")
    return int(number)


def _cast_float(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    exact = not isinstance(value, int) or number == value
    if not math.isfinite(number) or not exact:
        raise ValueError(f"expected a finite number, got {value!r}")
    return number


def _cast_choice(options: tuple[Any, ...], value: Any) -> Any:
    for option in options:
        try:
            if cast(type(option), value) == option:
                return option
        except ValueError:
            continue
    near = difflib.get_close_matches(str(value), [str(o) for o in options], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"expected one of {', '.join(str(o) for o in options)}, got {value!r}{hint}")


def _cast_union(options: tuple[Any, ...], value: Any) -> Any:
    if NoneType in options and (value is None or (isinstance(value, str) and value.lower() in NONE_WORDS)):
        return None
    for option in options:
        try:
            return cast(option, value)
        except ValueError:
            continue
    raise ValueError(f"expected {' or '.join(type_name(o) for o in options)}, got {value!r}")


def _cast_tuple(options: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    items = _split(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise ValueError(f"expected a list such as 1,2,3, got {value!r}")
    if options[-1] is Ellipsis:
        return tuple(cast(options[0], item) for item in items)
    if len(items) != len(options):
        raise ValueError(f"expected {len(options)} values, got {value!r}")
    return tuple(cast(option, item) for option, item in zip(options, items, strict=True))


def _split(text: str) -> list[str]:
    """Items of `1,2`, `[1,2]` or `[[1,2],[3,4]]`: splits at the commas outside inner brackets."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    items, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            items.append("")
        else:
            items[-1] += letter
    return [] if items == [""] else [item.strip() for item in items]
