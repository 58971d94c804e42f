"""What the report says of gate and memory, and what where there is none."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.data.dataset import Batch
from reference_reasoner.engine.training.task import ReportSection
from reference_reasoner.reasoner.evaluation import memory_section
from reference_reasoner.reasoner.evaluation.memory_section import memory_sections
from reference_reasoner.reasoner.evaluation.memory_use import memory_use
from reference_reasoner.reasoner.models.full_model import ReasonerConfig

from ..models.reasoners import CAUSAL, FIRST_PASS, GRID, reasoner, tokens_of


@dataclass(frozen=True, kw_only=True)
class Given:
    """Examples of ten tokens, maybe packed."""

    examples: int = 3
    packed: bool = False

    def __len__(self) -> int:
        return self.examples

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        example = {"tokens": tokens_of(1, 10, seed=index)[0], "example_id": torch.tensor(index)}
        return example | ({"documents": torch.zeros(10)} if self.packed else {})


def sections(config: ReasonerConfig, folder: Path, **given: Any) -> list[ReportSection]:
    with torch.no_grad():
        return memory_sections(reasoner(config).eval(), Given(**given), folder, batch_size=2)


def changed(config: ReasonerConfig, **changes: Any) -> ReasonerConfig:
    return replace(config, backbone=replace(config.backbone, **changes))


@pytest.mark.parametrize("config", [CAUSAL, GRID], ids=["causal", "grid"])
def test_both_are_shown_by_layer(tmp_path: Path, config: ReasonerConfig) -> None:
    gate, surprise = sections(config, tmp_path)
    assert (gate.title, surprise.title) == ("Gate by layer", "Surprise by layer")
    assert (gate.pictures, surprise.pictures) == (["gate.png"], ["surprise.png"])
    for name in ("gate.png", "surprise.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    for section in (gate, surprise):
        assert "first 3 validation examples at full depth" in section.text
        assert "Of the 6 times that a supervision step applies the network" in section.text
        assert section.table is not None
        updates = [line[:2] for line in section.table[1]]
        assert updates == [[layer, of] for layer in "12" for of in ("latent", "answer")]
    kinds = ("all tokens", "last 1/4 of tokens")
    if config is GRID:
        kinds = ("before the write", "after the write")
    assert surprise.table is not None
    assert surprise.table[0] == ["layer", "update of", *kinds]


def test_a_memory_that_is_written_once_is_measured_there(tmp_path: Path) -> None:
    gate, surprise = sections(FIRST_PASS["linear_once"], tmp_path)
    assert "the last two are shown" in gate.text
    assert "that of the last recursion is shown" in surprise.text
    assert gate.table is not None
    assert surprise.table is not None
    assert [line[1] for line in gate.table[1]] == ["latent", "answer"] * 2
    assert [line[:2] for line in surprise.table[1]] == [[layer, "first latent"] for layer in "12"]
    assert surprise.pictures == ["surprise.png"]


def test_the_table_is_over_all_supervision_steps(tmp_path: Path) -> None:
    gate, surprise = sections(GRID, tmp_path)
    with torch.no_grad():
        use = memory_use(reasoner(GRID).eval(), Given(), count=3, batch_size=3)

    def mean(measured: Any, layer: int, update: str) -> str:
        found = [each.mean for place, each in measured.items() if place[:2] == (update, layer)]
        assert len(found) == 4
        return f"{sum(found) / 4:.4f}"

    assert gate.table is not None
    assert surprise.table is not None
    for share, surprised in zip(gate.table[1], surprise.table[1], strict=True):
        place = (int(share[0]), share[1])
        assert share[2] == mean(use.shares, *place)
        assert 0 < float(share[3]) < 0.5
        expected = [mean(each, *place) for each in (use.surprise, use.later_surprise)]
        assert surprised[2:] == expected


def test_no_more_than_the_first_examples_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_section, "EXAMPLES", 2)
    gate, _ = sections(CAUSAL, tmp_path)
    assert "first 2 validation examples" in gate.text
    monkeypatch.undo()
    alone, _ = sections(CAUSAL, tmp_path, examples=2)
    assert gate == alone


def test_a_gate_that_multiplies_is_not_drawn(tmp_path: Path) -> None:
    gate, surprise = sections(changed(CAUSAL, gate="multiply"), tmp_path)
    assert "neither has a share" in gate.text
    assert not gate.pictures
    assert surprise.pictures == ["surprise.png"]
    assert not (tmp_path / "gate.png").exists()


@pytest.mark.parametrize(
    "config",
    [changed(GRID, use_memory=False), changed(GRID, use_memory=False, mixer="tokens")],
    ids=["no memory", "no attention"],
)
def test_a_model_without_memory_gets_a_sentence(tmp_path: Path, config: ReasonerConfig) -> None:
    (section,) = sections(config, tmp_path)
    assert "This model has no memory" in section.text
    assert not section.pictures
    assert list(tmp_path.iterdir()) == []


def test_packed_documents_get_a_sentence(tmp_path: Path) -> None:
    (section,) = sections(CAUSAL, tmp_path, packed=True)
    assert "packed documents" in section.text
    assert not section.pictures
