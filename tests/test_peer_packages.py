"""Steps and attention of other packages, beside ours; one command that runs what has its peer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    decode,
    inference,
    memory_growth,
    memory_layer,
    native_parts,
    peers,
    supervision_step,
    training_step,
    window_attention,
)
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


class _Official:
    """The official step, without a model."""

    def __init__(self, *asked: Any) -> None:
        self.asked = asked

    def parameters(self) -> int:
        return 0

    def __call__(self, batch: dict[str, torch.Tensor]) -> float:
        return float(batch["tokens"].sum())


def test_training_steps_take_turns_beside_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_step, "OfficialStep", _Official)
    shape = {"batch_size": 1, "H_cycles": 1, "L_cycles": 1, "L_layers": 2, "width": 64}
    # more workers than cores are a warning, and so a failure
    found = training_step.measured(
        tmp_path, torch.device("cpu"), shape=shape, precision="fp32", repetitions=2
    )
    assert list(found["seconds"]) == ["ours eager", "official eager"]
    assert found["official_over_ours"]["eager"]["median"] < 1


def test_window_attention_is_compared_with_what_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_our_package()
    from reference_reasoner.reasoner.models.attention import window_attention as attend

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


class _Doubled(torch.nn.Module):
    """A peer's layer that does our work twice, and gives a state too."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layer = memory_layer.ours(depth)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.layer(x) + self.layer(x), None


def test_memory_layers_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that does twice the work comes out slower, and the rows say how much."""
    monkeypatch.setattr(memory_layer, "theirs", _Doubled)
    monkeypatch.setattr(memory_layer, "NEEDS", "torch")
    monkeypatch.setattr(memory_layer, "version", lambda name: "1.2")
    monkeypatch.setattr(memory_layer.torch, "compile", lambda layer: layer)
    out = tmp_path / "layers.json"
    words = ["--rows", "1", "--tokens", "192", "--threads", "1", "--json", str(out)]
    memory_layer.main(words)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["peer"] == "titans-pytorch 1.2"
    asked = [line["required"] for line in found["lines"]]
    bounds = [each for each in asked if each != "reported"]
    assert bounds == [">= 2.3", ">= 1.7", ">= 2", ">= 1.4"]
    assert len(asked) == 2 * (2 + 1 + 2)  # eager forms, too, and the products of the forward pass
    for row in found["rows"].values():
        assert row["parameters"]["ours"] == row["parameters"]["theirs"]
        for kind in row["kinds"].values():
            assert kind["theirs_over_ours"]["median"] > 1.2
    memory_layer.main([*words, "--no-compiled"])
    eager = json.loads(out.read_text(encoding="utf-8"))["lines"]
    assert {line["required"] for line in eager} == {"reported"}  # the peer may be faster compiled


def test_time_in_the_memorys_c_is_told_by_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from reference_reasoner.reasoner.models.memory.native import (
        calls as memory_native,
    )
    from reference_reasoner.reasoner.models.memory.native import (
        layer as native_layer,
    )

    def call(name: str, *arguments: Any) -> None:
        assert arguments == (1, 2)

    monkeypatch.setattr(memory_native, "call", call)
    monkeypatch.setattr(native_layer, "call", call)
    with native_parts.native_parts() as parts:
        memory_native.call("memory_forward", 1, 2)
        native_layer.call("output_forward", 1, 2)
        native_layer.call("output_forward", 1, 2)
    assert memory_native.call is native_layer.call is call
    assert {name: len(seconds) for name, seconds in parts.items()} == {
        "memory_forward": 1,
        "output_forward": 2,
    }
    assert min(min(seconds) for seconds in parts.values()) > 0
    said = native_parts.in_words({"a": [2e-3, 4e-3, 3e-3], "b": [1e-3]}, [7e-3, 5e-3, 6e-3])
    assert said == "a 3.00, b 1.00, beside them 2.00 of 6.00 ms"


def test_each_layer_is_taken_at_its_best() -> None:
    found = memory_layer.summary(
        {
            "ours eager": [2.0, 2.0],
            "ours compiled": [3.0, 1.0],
            "theirs eager": [8.0, 8.0],
            "theirs compiled": [4.0, 5.0],
        }
    )
    assert found["best"]["theirs"] == "theirs compiled"
    assert found["eager_theirs_over_ours"]["median"] == 4.0
    assert found["theirs_over_ours"]["median"] == 2.25


def test_one_command_runs_what_has_its_peer_and_names_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "SINGLE", 1)
    whole = inference.shipped_case
    monkeypatch.setattr(inference, "shipped_case", lambda device, most: whole(device, 2))
    words = ["--only", "inference", "training_step", "--out", str(tmp_path / "peers")]
    peers.main(words)  # whether a ratio holds is not for a test of two puzzles to say
    said = capsys.readouterr().out
    assert "training_step: skipped: name a checkout with --official PATH" in said
    assert said.count("compaction `powers_of_two` over `exact`") == 1
    written = json.loads((tmp_path / "peers" / "inference.json").read_text(encoding="utf-8"))
    assert written["machine"]["threads"] == 1
    (figures,) = written["inference"].values()
    assert len(figures["together"]["seconds"]["full"]) == 7
    assert {line["holds"] for line in written["lines"]} <= {True, False, None}


def test_a_script_that_cannot_run_is_named_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(words: list[str]) -> int:
        raise RuntimeError("two\nlines")

    def left(words: list[str]) -> int:
        raise SystemExit("128 tokens failed")

    ran: list[list[str]] = []
    monkeypatch.setattr(memory_growth, "main", broken)
    monkeypatch.setattr(decode, "main", left)
    monkeypatch.setattr(window_attention, "main", lambda words: ran.append(words) or 0)
    last = ["--out", str(tmp_path), "--only", "window_attention"]
    assert peers.main(last) == 0
    # training_step is given a folder that is no checkout
    scripts = ["training_step", "memory_growth", "decode", "window_attention"]
    assert peers.main(["--official", str(tmp_path), *last[:-1], *scripts]) == 1
    assert len(ran) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-3:] == [
        "training_step: could not run: it left with 2, see above",
        "memory_growth: could not run: RuntimeError: two lines",
        "decode: could not run: 128 tokens failed",
    ]
    assert "there is no checkout of" in said[-4]


def test_a_script_whose_peer_lacks_a_package_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_the_first(name: str) -> object | None:
        return None if name == "x_transformers" else object()

    monkeypatch.setattr(peers.importlib.util, "find_spec", only_the_first)
    assert peers.main(["--only", "supervision_step", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "supervision_step: skipped: pip install x-transformers\n"
    assert peers.PEERS == {
        "memory_layer": (memory_layer.NEEDS,),
        "supervision_step": supervision_step.NEEDS,
    }
