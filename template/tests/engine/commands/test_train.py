"""Which task, preset and config a `train` command line means."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from ..toy.command_line import TOY, CommandLine
from ..toy.task import ToyTask


class OtherTask(ToyTask):
    """A second task of the project."""

    name = "other"


@pytest.fixture
def line(project: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    both = replace(
        TOY,
        tasks={**TOY.tasks, "other": f"{__name__}:OtherTask"},
        presets={**TOY.presets, "other": "other"},
    )
    with patch.object(OtherTask, "presets", {"other": ToyTask.presets["toy"]}):
        yield CommandLine(project, capsys, both)


def _shown(listing: str) -> dict[str, tuple[str, str]]:
    """{field: (value, source)} of what --print-config shows."""
    found = {}
    for text in listing.splitlines():
        name, _, rest = text.partition(" = ")
        value, _, source = rest.partition("  # ")
        found[name] = (value.strip(), source.strip())
    return found


def _print(line: CommandLine, *words: object) -> dict[str, tuple[str, str]]:
    before = sorted(line.project.rglob("*"))
    shown = _shown(line.done("train", "--print-config", *words))
    assert sorted(line.project.rglob("*")) == before
    return shown


def test_without_a_preset_it_is_the_default_one(line: CommandLine) -> None:
    shown = _print(line)
    assert shown["training.steps"] == ("20", "preset default")
    assert shown["training.beta1"] == ("0.9", "default")


def test_every_value_says_where_it_came_from(line: CommandLine) -> None:
    text = "training.batch_size = 6\nmodel.width = 5\nseed = 3\n"
    (line.project / "my.toml").write_text(text, encoding="utf-8")
    flags = ["--preset", "toy", "--config", "my.toml", "--seed", "4"]
    shown = _print(line, *flags, "--runtime.compile=True")
    assert shown["training.beta1"] == ("0.9", "default")
    assert shown["training.steps"] == ("20", "preset toy")
    assert shown["training.batch_size"] == ("6", "my.toml")
    assert shown["model.width"] == ("5", "my.toml")
    assert shown["seed"] == ("4", "flag")
    assert shown["runtime.compile"] == ("true", "flag")


def test_what_is_shown_can_be_fed_back(line: CommandLine) -> None:
    listing = line.done("train", "--print-config", "--seed", "4", "--model.dropout", "0.25")
    (line.project / "shown.toml").write_text(listing, encoding="utf-8")
    again = _print(line, "--config", "shown.toml", "--preset", "smoke")
    assert {name: value for name, (value, _) in again.items()} == {
        name: value for name, (value, _) in _shown(listing).items()
    }
    assert again["seed"] == ("4", "shown.toml")


def test_print_config_needs_no_free_run_directory(line: CommandLine) -> None:
    assert _print(line, "--run-dir", ".")["training.steps"] == ("20", "preset default")
    assert "--resume needs --run-dir" in line.refused("train", "--print-config", "--resume")


def test_a_preset_chooses_the_task(line: CommandLine) -> None:
    line.done("train", "--preset", "other", "--training.steps", "3", "--run-dir", "mine")
    said = json.loads((line.project / "mine" / "run.json").read_text(encoding="utf-8"))
    assert (said["task"], said["preset"]) == ("other", "other")


def test_a_resumed_run_keeps_its_own_config(line: CommandLine) -> None:
    words = ("train", "--preset", "other", "--run-dir", "mine")
    line.done(*words, "--training.steps", "3", "--model.width", "5")
    for preset in ((), ("--preset", "other")):
        shown = _print(line, "--run-dir", "mine", "--resume", *preset)
        assert shown["training.steps"] == ("3", "mine/config.toml")
        assert shown["model.width"] == ("5", "mine/config.toml")
        assert shown["training.beta1"] == ("0.9", "default")
    # a condition or a free field may be given anew
    line.done("train", "--run-dir", "mine", "--resume", "--checkpoint.keep", "3")
    line.done("train", "--run-dir", "mine", "--resume", "--extend-to", "4")


def test_a_preset_of_another_task_does_not_go_on_with_a_run(line: CommandLine) -> None:
    line.done("train", "--preset", "other", "--run-dir", "mine", "--training.steps", "3")
    said = line.refused("train", "--preset", "toy", "--run-dir", "mine", "--resume")
    assert "is a run of the task 'other', not of 'toy'" in said


def test_another_preset_of_the_task_is_another_trajectory(line: CommandLine) -> None:
    line.done("train", "--preset", "toy", "--run-dir", "mine", "--training.steps", "3")
    said = line.refused("train", "--preset", "smoke", "--run-dir", "mine", "--resume")
    assert "training.steps was 3, now 20" in said
