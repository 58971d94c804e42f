"""Four sources of a value: defaults < preset < file < flags."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from reference_reasoner.engine.config.fields import ConfigError, flatten
from reference_reasoner.engine.config.run_config import RunConfig, TrainingConfig
from reference_reasoner.engine.config.sources import Sourced, config_help

from ..toy.task import ToyConfig, toy

OWN = ("--resume", "--run-dir")
DEFAULTS = Sourced(config=ToyConfig())


def _flags(*flags: str, start: Sourced = DEFAULTS) -> Sourced:
    return start.with_flags(flags, OWN)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_source_wins_over_those_before_it(tmp_path: Path) -> None:
    path = _file(tmp_path, "[training]\nbatch_size = 6\nlearning_rate = 0.5\n")
    plain = DEFAULTS
    preset = plain.with_preset(toy(), "toy")
    file = preset.with_file(path)
    flags = _flags("--training.learning-rate", "0.25", start=file)
    names = ("training.beta1", "training.steps", "training.batch_size", "training.learning_rate")
    values = [[flatten(each.config)[n] for n in names] for each in (plain, preset, file, flags)]
    assert values == [
        [0.9, 1000, 64, 1e-3],
        [0.9, 20, 12, 1e-2],
        [0.9, 20, 6, 0.5],
        [0.9, 20, 6, 0.25],
    ]
    assert [flags.sources.get(name) for name in names] == [None, "preset toy", str(path), "flag"]
    assert plain.sources == {}


def test_a_preset_says_only_what_it_changes(tmp_path: Path) -> None:
    path = _file(tmp_path, "training.steps = 7\nmodel.width = 16\n")
    after = DEFAULTS.with_file(path).with_preset(toy(), "toy")
    assert after.config.training.steps == 20
    assert after.sources["training.steps"] == "preset toy"
    assert after.sources["model.width"] == str(path)
    assert isinstance(after.config, ToyConfig)
    assert after.config.model.width == 16


def test_a_flag_wins_also_where_it_repeats_the_default() -> None:
    preset = DEFAULTS.with_preset(toy(), "toy")
    after = _flags("--training.steps", "1000", start=preset)
    assert after.config.training.steps == 1000
    assert after.sources["training.steps"] == "flag"


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--training.steps", "7"], "training.steps", 7),
        (["--training.steps=7"], "training.steps", 7),
        (["--training.learning-rate", "1e-4"], "training.learning_rate", 1e-4),
        (["--training.learning_rate", "1e-4"], "training.learning_rate", 1e-4),
        (["--training.schedule", "wsd"], "training.schedule", "wsd"),
        (["--runtime.compile", "True"], "runtime.compile", True),
        (["--use-carry", "False"], "use_carry", False),
        (["--model.width", "16"], "model.width", 16),
        (["--seed", "9"], "seed", 9),
    ],
)
def test_flags_are_typed(flags: list[str], name: str, value: object) -> None:
    after = _flags(*flags)
    found = flatten(after.config)[name]
    assert found == value
    assert type(found) is type(value)
    assert after.sources == {name: "flag"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--nothing.at-all", "3"], ["there is no flag --nothing.at_all"]),
        (["--training.stps", "3"], ["did you mean --training.steps?"]),
        (["--run-dr", "x"], ["did you mean --run-dir?"]),
        (["--training.steps", "many"], ["--training.steps", "many"]),
        (["--training.steps"], ["--training.steps"]),
        (["--training.schedule", "linear"], ["linear", "cosine"]),
        (["--training.beta1", "2"], ["training.beta1 must be in [0, 1), got 2"]),
        (["--training.accumulation-steps", "65"], ["accumulation_steps (65) must not exceed"]),
        (["--model.width", "-3"], ["model.width must be at least 1, got -3"]),
        (["7"], ["'7' belongs to no flag"]),
    ],
)
def test_flags_that_cannot_be_used(flags: Sequence[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        _flags(*flags)
    said = str(caught.value)
    assert [word for word in words if word not in said] == [], said
    assert not set(said) & set("╭╮╰╯│─\n")
    assert said.startswith("Error parsing") == (flags[-1] == "many")


def test_two_fields_that_only_fit_together_may_be_given_together() -> None:
    config = _flags("--training.select-on", "ema", "--training.ema-decay", "0.9").config
    assert config.training.ema_decay == 0.9
    with pytest.raises(ConfigError, match=r"training\.ema_decay is 0"):
        _flags("--training.select-on", "ema")


@pytest.mark.parametrize(
    ("text", "said"),
    [("model.widht = 3\n", r"my\.toml: .* did you mean model\.width\?"), ("x =\n", "TOML")],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DEFAULTS.with_file(_file(tmp_path, text))


@dataclass(frozen=True, kw_only=True)
class OddConfig(RunConfig):
    sizes: tuple[int, ...] = (1, 2)
    text: str = 'a "quoted" \\ word'
    limit: int | None = None


def test_the_listing_is_toml_that_gives_the_same_config(tmp_path: Path) -> None:
    made = Sourced(config=OddConfig(training=TrainingConfig(learning_rate=1e-7)))
    listing = made.overlaid({"sizes": [3], "seed": 4}, "somewhere").listing()
    assert "# limit is not set" in listing
    by_name = {line.split(" = ")[0]: line for line in listing.splitlines()}
    assert by_name["seed"].endswith("# somewhere")
    assert by_name["training.steps"].endswith("# default")
    assert tomllib.loads(listing)["sizes"] == [3]
    again = Sourced(config=OddConfig()).with_file(_file(tmp_path, listing))
    assert again.config == OddConfig(
        sizes=(3,), seed=4, training=TrainingConfig(learning_rate=1e-7)
    )


def test_the_help_shows_every_field_with_its_value_and_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = config_help(toy())
    for name in flatten(ToyConfig()):
        assert f"--{name.replace('_', '-')}" in shown
    assert "Optimizer steps in all." in shown
    assert "20" in shown
