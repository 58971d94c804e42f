"""A run's config from its four sources: defaults < preset < file < flags.

They are merged before the flags are parsed, and only what a source really says is laid over:
a flag wins also where it repeats the default.
"""

import contextlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from .fields import ConfigError, flatten, overlay, read_toml, suggestion
from .run_config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Sourced:
    """A config, and where each value that is no default came from."""

    config: RunConfig
    sources: Mapping[str, str] = field(default_factory=dict)
    """{dotted field: source}"""

    def overlaid(self, values: Mapping[str, Any], source: str) -> "Sourced":
        """The config with dotted `values` over it. Raises ConfigError where they do not fit."""
        config = overlay(self.config, values, source)
        return Sourced(config=config, sources={**self.sources, **dict.fromkeys(values, source)})

    def with_preset(self, preset: RunConfig, name: str) -> "Sourced":
        """The config with those fields of a preset that are not at their default."""
        plain = flatten(type(preset)())
        values = {k: v for k, v in flatten(preset).items() if v != plain[k]}
        return self.overlaid(values, f"preset {name}")

    def with_file(self, path: Path) -> "Sourced":
        """The config with a TOML file's values (--config). Raises ConfigError for unusable ones."""
        return self.overlaid(read_toml(path), str(path))

    def with_flags(self, flags: Sequence[str], own_flags: Iterable[str]) -> "Sourced":
        """The config with `--section.field VALUE ...`; `own_flags`: the command's, for suggestions.

        Raises ConfigError for an unknown flag, a value of the wrong type, or a refused one.
        """
        known = flatten(self.config)
        given: dict[str, str] = {}
        for flag in flags:
            if flag.startswith("--"):
                name = flag.removeprefix("--").partition("=")[0].replace("-", "_")
                if name not in known:
                    every = [*own_flags, *(f"--{each}" for each in known)]
                    asked = f"--{name}"
                    raise ConfigError(f"there is no flag {asked}{suggestion(asked, every)}")
                given[name] = "flag"
        config, rest = _parse(self.config, flags)
        if rest:
            raise ConfigError(f"{rest[0]!r} belongs to no flag: write --section.field VALUE")
        return Sourced(config=config, sources={**self.sources, **given})

    def listing(self) -> str:
        """List the config as TOML, each value's source behind it; can be fed back with --config."""
        lines = []
        for name, value in flatten(self.config).items():
            text = f"{name} = {_toml_value(value)}" if value is not None else f"# {name} is not set"
            lines.append(f"{text:<45}  # {self.sources.get(name, 'default')}")
        return "\n".join(lines)


def _toml_value(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _parse(config: RunConfig, flags: Sequence[str]) -> tuple[RunConfig, list[str]]:
    said = io.StringIO()
    kind = _with_values_for_switches(config)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed, rest = tyro.cli(
                kind, args=list(flags), default=config, return_unknown_args=True, add_help=False
            )
    except SystemExit as error:
        text = _first_paragraph(said.getvalue())
        # a section that refuses its values was parsed; a flag that was not keeps tyro's words
        raise ConfigError(re.sub(r"^Error parsing (?!-)[\w.]+: ", "", text)) from error
    return parsed, rest


def _first_paragraph(box: str) -> str:
    """The sentence in the frame, of lines or of plain dashes, that tyro draws around an error."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip().strip("│|").strip()
        if text.strip("─╰╯-"):
            words.append(text)
        elif words:
            break
    return " ".join(words)


def config_help(config: RunConfig) -> str:
    """tyro's help on every flag of `config`, whose values it shows as defaults."""
    said = io.StringIO()
    kind = _with_values_for_switches(config)
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], default=config, prog="train", description="")
    return said.getvalue().partition("\n")[2].strip()


def _with_values_for_switches(config: RunConfig) -> Any:
    """The config's type for tyro, so that a bool reads `--runtime.compile True`."""
    return Annotated[type(config), tyro.conf.FlagConversionOff]
