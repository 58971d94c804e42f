"""Checks, typed replacement and TOML, on a config that is nobody's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_reasoner.engine.config import fields as config_fields
from reference_reasoner.engine.config.fields import ConfigError
from reference_reasoner.engine.errors import RefusedInputError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    shape: Literal["round", "square"] = "round"
    level: Literal[1, 2] = 1
    sizes: tuple[int, ...] = (1, 2)
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate is {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "x"
    on: bool = False
    count: int = 3
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        config_fields.require(self.count != 13, "count must not be 13")


def test_flatten_keeps_the_order_and_dots_the_names() -> None:
    assert list(config_fields.flatten(Outer())) == [
        "name",
        "on",
        "count",
        "inner.rate",
        "inner.shape",
        "inner.level",
        "inner.sizes",
        "inner.limit",
    ]


def test_overlay_replaces_what_it_is_given_and_nothing_else() -> None:
    old = Outer(inner=Inner(rate=0.25))
    new = config_fields.overlay(old, {"inner.sizes": [3], "count": 4, "inner.limit": 7}, "test")
    assert new == Outer(count=4, inner=Inner(rate=0.25, sizes=(3,), limit=7))
    assert old == Outer(inner=Inner(rate=0.25))
    assert config_fields.overlay(old, {}, "test") == old


def test_an_int_serves_as_a_float_and_none_where_it_may() -> None:
    new = config_fields.overlay(Outer(), {"inner.rate": 2, "inner.limit": None}, "test")
    assert new.inner.rate == 2.0
    assert type(new.inner.rate) is float
    assert new.inner.limit is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("inner.rat", 1.0, ["there is no field inner.rat", "did you mean inner.rate?"]),
        ("zzz", 1, ["there is no field zzz"]),
        ("inner", 1, ["there is no field inner"]),
        ("count", "3", ["count must be of type int", "'3'"]),
        ("count", True, ["count must be of type int", "True"]),
        ("count", 3.0, ["count must be of type int", "3.0"]),
        ("count", None, ["count must be of type int", "None"]),
        ("on", 1, ["on must be of type bool"]),
        ("name", 1, ["name must be of type str"]),
        ("inner.rate", "high", ["inner.rate must be of type float", "'high'"]),
        ("inner.rate", True, ["inner.rate must be of type float"]),
        ("inner.rate", -1.0, ["rate is -1.0"]),
        ("inner.shape", "squar", ["'round', 'square'", "'squar'", "did you mean square?"]),
        ("inner.shape", ["round"], ["must be one of"]),
        ("inner.level", True, ["must be one of 1, 2"]),
        ("inner.sizes", 3, ["inner.sizes must be of type"]),
        ("inner.sizes", [1, "b"], ["inner.sizes must be of type int", "'b'"]),
        ("inner.limit", "x", ["inner.limit must be of type int"]),
        ("count", 13, ["count must not be 13"]),
    ],
)
def test_overlay_refuses(name: str, value: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_fields.overlay(Outer(), {name: value}, "the source")
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, RefusedInputError)


def test_a_refusal_names_its_source() -> None:
    for values in ({"nothing": 1}, {"count": "x"}, {"inner.rate": -1.0}):
        with pytest.raises(ConfigError, match=r"^my\.toml: "):
            config_fields.overlay(Outer(), values, "my.toml")


def test_suggestion() -> None:
    assert config_fields.suggestion("tarin", ["train", "runs"]) == "; did you mean train?"
    assert config_fields.suggestion("zzzz", ["train", "runs"]) == ""


@given(
    name=st.text("ab =#[].'\"\\\n\t\x00é€", max_size=8),
    count=st.integers(-(2**40), 2**40).filter(lambda n: n != 13),
    rate=st.floats(0, 1e30),
    sizes=st.lists(st.integers(-5, 5), max_size=3),
)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_toml_gives_back_the_same_config(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    count: int,
    rate: float,
    sizes: list[int],
) -> None:
    config = Outer(name=name, count=count, inner=Inner(rate=rate, sizes=tuple(sizes)))
    path = tmp_path_factory.mktemp("toml") / "config.toml"
    path.write_text(config_fields.to_toml(config), encoding="utf-8")
    assert config_fields.overlay(Outer(), config_fields.read_toml(path), str(path)) == config


def test_toml_has_no_null_so_none_is_left_out() -> None:
    assert "limit" not in config_fields.to_toml(Outer())


def test_a_config_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read as a config file"):
        config_fields.read_toml(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read as a config file"):
        config_fields.read_toml(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as a config file"):
        config_fields.read_toml(binary)
    broken = tmp_path / "broken.toml"
    broken.write_text("[training\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        config_fields.read_toml(broken)


def test_check_at_least() -> None:
    config_fields.check_at_least(Outer(count=1), "s", "count", inclusive=1)
    config_fields.check_at_least(Outer(count=1), "s", "count", exclusive=0)
    with pytest.raises(ConfigError, match=r"s\.count must be at least 1, got 0"):
        config_fields.check_at_least(Outer(count=0), "s", "count", inclusive=1)
    with pytest.raises(ConfigError, match=r"s\.count must be above 0, got 0"):
        config_fields.check_at_least(Outer(count=0), "s", "count")
