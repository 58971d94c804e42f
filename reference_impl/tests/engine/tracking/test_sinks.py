"""metrics.jsonl: one JSON object a line, whatever happens to the last one."""

import json
import math
import os
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from reference_reasoner.engine import tracking
from reference_reasoner.engine.config.run_config import TrackingConfig
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.tracking.sinks import (
    JsonlSink,
    Record,
    check_trackers,
    keep_records,
    open_sinks,
    read_records,
)


def _record(step: int, kind: str = "train", **values: float) -> Record:
    return {"kind": kind, "step": step, **values}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_what_is_written_is_read_back(path: Path) -> None:
    sink = JsonlSink(path)
    written = [_record(1, loss=0.5, wall_s=1.25), _record(5, "evaluation", selected=1.0)]
    for record in written:
        sink.write(record)
        # readable at once: a killed run has its records
        assert read_records(path)[-1] == record
    sink.close()
    assert read_records(path) == written
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_a_sink_appends(path: Path) -> None:
    for step in (1, 2):
        sink = JsonlSink(path)
        sink.write(_record(step))
        sink.close()
    assert [record["step"] for record in read_records(path)] == [1, 2]


def test_a_number_that_is_not_finite_becomes_null(path: Path) -> None:
    sink = JsonlSink(path)
    sink.write(_record(1, loss=math.nan, low=-math.inf, high=math.inf, fine=1.5, count=2))
    sink.close()
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "kind": "train",
        "step": 1,
        "loss": None,
        "low": None,
        "high": None,
        "fine": 1.5,
        "count": 2,
    }


def test_sync_reaches_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonlSink(path)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    sink.write(_record(1))
    assert synced == []
    sink.sync()
    assert len(synced) == 1
    sink.close()


def test_no_file_is_no_record(path: Path) -> None:
    assert read_records(path) == []
    assert keep_records(path, lambda record: True) == []
    assert not path.exists()


@pytest.mark.parametrize("torn", ['{"kind": "tra', "{", '{"kind": "train", "step": 3'])
def test_a_torn_last_line_is_left_out_and_then_removed(path: Path, torn: str) -> None:
    whole = json.dumps(_record(1)) + "\n"
    path.write_text(whole + torn, encoding="utf-8")
    assert read_records(path) == [_record(1)]
    assert keep_records(path, lambda record: True) == [_record(1)]
    assert path.read_text(encoding="utf-8") == whole


def test_a_letter_cut_in_half_is_a_torn_line_too(path: Path) -> None:
    path.write_bytes(json.dumps(_record(1)).encode() + b'\n{"kind": "\xc3')
    assert read_records(path) == [_record(1)]


def test_another_line_that_is_not_json_is_refused(path: Path) -> None:
    text = f'{json.dumps(_record(1))}\n{"{"}"kind\n{json.dumps(_record(2))}\n'
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RefusedInputError, match=r"metrics\.jsonl, line 2 is not JSON"):
        read_records(path)
    with pytest.raises(RefusedInputError):
        keep_records(path, lambda record: True)
    assert path.read_text(encoding="utf-8") == text


def test_keep_records_drops_the_others(path: Path) -> None:
    sink = JsonlSink(path)
    for step in range(1, 6):
        sink.write(_record(step))
    sink.close()
    kept = keep_records(path, lambda record: record["step"] <= 3)
    assert [record["step"] for record in kept] == [1, 2, 3]
    assert read_records(path) == kept
    assert list(path.parent.iterdir()) == [path]


def test_without_a_tracker_there_is_the_file_only(tmp_path: Path, path: Path) -> None:
    check_trackers(TrackingConfig())
    (sink,) = open_sinks(tmp_path, TrackingConfig())
    sink.write(_record(1))
    sink.close()
    assert read_records(path) == [_record(1)]
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{tracking.__name__}.tensorboard_sink"
    there = types.ModuleType(name)  # also in a project without that tracker
    there.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, there)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(RefusedInputError, match="install the extra `tensorboard`") as caught:
        check_trackers(TrackingConfig(tensorboard=True))
    assert "tracking.tensorboard is on" in str(caught.value)
    assert "copier" not in str(caught.value)


@pytest.mark.parametrize("installed", [types.ModuleType("tensorboard"), None])
def test_a_tracker_that_the_project_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch, installed: types.ModuleType | None
) -> None:
    name = f"{tracking.__name__}.tensorboard_sink"
    monkeypatch.setitem(sys.modules, "tensorboard", installed)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(tracking, "tensorboard_sink", raising=False)
    with pytest.raises(RefusedInputError, match="this project was made without that") as caught:
        check_trackers(TrackingConfig(tensorboard=True))
    assert "install the extra" not in str(caught.value)


def test_a_tracker_first_replays_what_was_recorded(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Path, list[Record]]] = []

    class Recorder(JsonlSink):
        def __init__(self, folder: Path, records: list[Record]) -> None:
            made.append((folder, records))
            super().__init__(tmp_path / "replayed.jsonl")

    module = types.ModuleType(f"{tracking.__name__}.tensorboard_sink")
    module.TensorBoardSink = Recorder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(tracking, "tensorboard_sink", module, raising=False)
    path.write_text(json.dumps(_record(1)) + "\n", encoding="utf-8")
    sinks = open_sinks(tmp_path, TrackingConfig(tensorboard=True))
    for sink in sinks:
        sink.close()
    assert len(sinks) == 2
    assert made == [(tmp_path / "tensorboard", [_record(1)])]
