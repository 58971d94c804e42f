"""What every configuration dataclass needs: checks, typed replacement of fields, TOML.

Knows nothing of the fields there are; those stand in config.py, data/, models/ and tasks/.
A field is named by its dotted path, `training.steps`.
"""

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import RefusedInputError

ConfigT = TypeVar("ConfigT")


class ConfigError(RefusedInputError, ValueError):
    """A configuration value that cannot be used; the message names the field and the value."""


def require(condition: bool, message: str) -> None:
    """Raise ConfigError(message) unless `condition`."""
    if not condition:
        raise ConfigError(message)


def check_at_least(
    config: object, section: str, name: str, *, inclusive: float | None = None, exclusive: float = 0
) -> None:
    """Refuse inf, nan, and a field below `inclusive` or, without one, not above `exclusive`."""
    value = getattr(config, name)
    require(math.isfinite(value), f"{section}.{name} must be finite, got {value}")
    if inclusive is not None:
        require(value >= inclusive, f"{section}.{name} must be at least {inclusive}, got {value}")
    else:
        require(value > exclusive, f"{section}.{name} must be above {exclusive}, got {value}")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted field name: value} of a dataclass tree, in the order of its fields."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        name = prefix + item.name
        flat |= flatten(value, name + ".") if dataclasses.is_dataclass(value) else {name: value}
    return flat


def overlay(config: ConfigT, values: Mapping[str, Any], source: str) -> ConfigT:
    """Return `config` with the dotted `values` in place of its own, checked.

    `source` names where the values come from in an error. Raises ConfigError for a field
    that does not exist (naming the nearest one), a value of another type, or one that the
    config refuses.
    """
    known = flatten(config)
    for name in values:
        if name not in known:
            raise ConfigError(f"{source}: there is no field {name}{suggestion(name, known)}")
    return _overlay(config, values, "", source)


def _overlay(config: Any, values: Mapping[str, Any], prefix: str, source: str) -> Any:
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        name, old = prefix + item.name, getattr(config, item.name)
        if dataclasses.is_dataclass(old):
            if any(key.startswith(name + ".") for key in values):
                changes[item.name] = _overlay(old, values, name + ".", source)
        elif name in values:
            changes[item.name] = checked(values[name], hints[item.name], f"{source}: {name}")
    try:
        return dataclasses.replace(config, **changes)
    except ConfigError:
        raise
    except ValueError as error:  # a model's config knows nothing of this module
        raise ConfigError(f"{source}: {error}") from error


def checked(value: Any, hint: Any, name: str) -> Any:
    """Return `value` as the type `hint` asks for, or raise ConfigError naming `name`.

    An int serves as a float and a list as a tuple, as TOML has only the former of each.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments and type(value) in {type(choice) for choice in arguments}:
            return value
        choices = ", ".join(repr(choice) for choice in arguments)
        near = suggestion(str(value), [str(choice) for choice in arguments])
        raise ConfigError(f"{name} must be one of {choices}, got {value!r}{near}")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return checked(value, next(a for a in arguments if a is not type(None)), name)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(checked(item, arguments[0], name) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not (origin or hint):
        wanted = getattr(hint, "__name__", str(hint))
        raise ConfigError(f"{name} must be of type {wanted}, got {value!r}")
    return value


def suggestion(name: str, known: typing.Iterable[str]) -> str:
    """'; did you mean X?' for the known name nearest to `name`, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def to_toml(config: Any) -> str:
    """The whole config as TOML; a field that is None is left out, as TOML has no null."""
    import tomli_w  # not needed to read: a machine that only measures may lack it

    return tomli_w.dumps(_without_none(dataclasses.asdict(config)))


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in tree.items()
        if value is not None
    }


def read_toml(path: Path) -> dict[str, Any]:
    """{dotted field name: value} in the TOML file at `path`, unchecked.

    Raises ConfigError where the file cannot be read or is not TOML.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a config file: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return dict(_dotted(tree, ""))


def _dotted(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
