"""run.json is whole at any moment, or refused."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.tracking.manifest import RunManifest


def test_a_new_run_is_running_and_has_every_key(tmp_path: Path) -> None:
    manifest = RunManifest.create(tmp_path, task="toy", steps=20)
    data = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert data == manifest.data
    assert data["name"] == tmp_path.name
    assert (data["status"], data["step"], data["task"], data["steps"]) == ("running", 0, "toy", 20)
    for name in ("stop_step", "stop_reason", "error", "best", "weights_sha256", "state_sha256"):
        assert data[name] is None
    assert data["schema"] == 1
    assert datetime.fromisoformat(data["created_at"]).tzinfo == UTC
    assert data["created_at"] <= data["updated_at"]


def test_the_name_is_that_of_the_folder_however_it_was_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "mine").mkdir()
    monkeypatch.chdir(project / "mine")
    assert RunManifest.create(Path(".")).data["name"] == "mine"


def test_update_keeps_the_rest_and_load_reads_it_back(tmp_path: Path) -> None:
    manifest = RunManifest.create(tmp_path, task="toy")
    manifest.update(status="finished", step=9)
    loaded = RunManifest.load(tmp_path)
    assert loaded.run_dir == tmp_path
    assert loaded.data == manifest.data
    assert (loaded.data["task"], loaded.data["status"], loaded.data["step"]) == (
        "toy",
        "finished",
        9,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedInputError, match=r"is not a run: it holds no run\.json"):
        RunManifest.load(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "\xff", "[]", "3", "{}", '{"schema": 99}'])
def test_a_broken_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(RefusedInputError, match=r"run\.json"):
        RunManifest.load(tmp_path)
