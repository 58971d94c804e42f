"""Steps and attention of other packages, beside ours: what is compared is the same work."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import supervision_step, window_attention
from benchmarks.peer_scripts import use_our_package


class _Refiner(torch.nn.Module):
    """A peer's model that does next to nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = torch.nn.Embedding(supervision_step.VOCABULARY, width)
        self.head = torch.nn.Linear(width, supervision_step.VOCABULARY)

    def get_initial(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(()), torch.zeros(())

    def forward(
        self,
        tokens: torch.Tensor,
        outputs: torch.Tensor,
        latents: torch.Tensor,
        labels: torch.Tensor,
    ) -> tuple[Any, ...]:
        logits = self.head(self.network(tokens) + outputs)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        kept = logits.detach().mean()
        return loss, (loss,), kept, latents, logits, kept


def test_supervision_steps_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision_step, "theirs", lambda mixing, width: _Refiner(width))
    monkeypatch.setattr(supervision_step, "NEEDS", ())
    monkeypatch.setattr(supervision_step, "version", lambda name: "1.2")
    out = tmp_path / "steps.json"
    words = ["--width", "16", "--batch", "1", "--no-compiled", "--json", str(out)]
    assert supervision_step.main(words) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["peer"] == "tiny-recursive-model 1.2"
    assert list(found["rows"]) == list(supervision_step.PRESETS)
    for row in found["rows"].values():
        assert row["theirs_over_ours"]["median"] < 1 / 5  # 21 passes of two layers against one
        assert row["parameters"]["ours"] > row["parameters"]["theirs"]


def test_window_attention_is_compared_with_what_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_our_package()
    from reference_reasoner.models import attend

    out = tmp_path / "attention.json"
    words = ["--tokens", "100", "--window", "16", "--no-compiled", "--json", str(out)]
    assert window_attention.main(words) == 0
    found = json.loads(out.read_text(encoding="utf-8"))["attention"]
    seen = [16 + min(16, token + 1) for token in range(100)]
    assert found["pairs"] == {"window": 16 * 16 + sum(seen), "causal": 116 * 117 // 2}
    assert set(found["over_ours"]) == {window_attention.DENSE, window_attention.CAUSAL}

    monkeypatch.setattr(attend, "attend", lambda q, k, v, **how: v)
    with pytest.raises(RuntimeError, match=r"SDPA, dense mask is .* from what ours gives"):
        window_attention.main(words)
