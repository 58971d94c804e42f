"""What `benchmarks.decode` makes of times, and that it runs; nothing here asserts a duration."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decode import exponent, judged, main, seconds_in_turns, setting, summary

from .refusals import refusal

SMALL = ("--preset", "recall_smoke", "--contexts", "8", "32", "--tokens", "2")


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_an_exponent_is_found_again(power: float) -> None:
    sizes = [1024, 4096, 16384, 65536]
    assert exponent(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(power)


def test_rates_are_medians_and_the_exponent_is_that_of_each_turn() -> None:
    # the second turn is slow for both contexts, and leaves the exponent alone
    found = summary({100: [1.0, 10.0, 1.0], 1000: [1.0, 10.0, 10.0]}, tokens=50)
    first, second = found["contexts"]
    assert (first["tokens_per_s"], second["tokens_per_s"]) == (50.0, 5.0)
    assert (first["slowest_tokens_per_s"], first["fastest_tokens_per_s"]) == (5.0, 50.0)
    assert second["ms_per_token"] == pytest.approx(200.0)
    assert found["time_exponent"] == pytest.approx(0.0)
    assert found["time_exponent_spread"] == pytest.approx([0.0, 1.0])
    assert found["repetitions"] == 3


class Counted:
    """A decoder by whose clock a token takes as long as it is told."""

    now = 0.0

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def go_on(self, tokens: int) -> None:
        """Move the clock on."""
        self.calls += 1
        Counted.now += self.seconds * tokens


def test_contexts_take_turns_after_a_warm_up() -> None:
    decoders: list[Any] = [Counted(0.5), Counted(2.0)]
    taken = seconds_in_turns(decoders, lambda: Counted.now, tokens=4, repetitions=3)
    assert taken == [[2.0] * 3, [8.0] * 3]
    assert [each.calls for each in decoders] == [4, 4]


@pytest.mark.parametrize(
    ("growth", "sizes", "holds"),
    [(0.01, [8, 8], [True, True]), (-0.2, [8, 9], [True, False]), (0.2, [8, 8], [False, True])],
)
def test_flat_is_flat(growth: float, sizes: list[int], holds: list[bool]) -> None:
    figures = {
        "model": {"preset": "recall"},
        "contexts": [],
        "p50_ms": {},
        "time_exponent": growth,
        "time_exponent_spread": [growth, growth],
        "state_bytes": dict(enumerate(sizes)),
    }
    assert [line.holds for line in judged(figures, on_gpu=False)] == holds


@pytest.mark.parametrize(
    ("preset", "on_gpu", "holds"),
    [("lm25m", True, [True, False]), ("lm25m", False, [None] * 2), ("recall", True, [None] * 2)],
)
def test_a_token_of_lm25m_may_take_a_millisecond_on_a_gpu(
    preset: str, on_gpu: bool, holds: list[bool | None]
) -> None:
    figures = {
        "model": {"preset": preset},
        "contexts": [],
        "p50_ms": {"1024": 0.9, "8192": 1.1},
        "time_exponent": 0.0,
        "time_exponent_spread": [0.0, 0.0],
        "state_bytes": {"1024": 8, "8192": 8},
    }
    assert [line.holds for line in judged(figures, on_gpu=on_gpu)[:2]] == holds


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "decode.json"
    assert main([*SMALL, "--json", str(out), "--set", "model.backbone.window=3"]) in (0, 1)
    written = json.loads(out.read_text(encoding="utf-8"))
    assert [row["context_tokens"] for row in written["contexts"]] == [8, 32]
    assert all(row["tokens_per_s"] > 0 for row in written["contexts"])
    assert len(set(written["state_bytes"].values())) == 1
    assert written["model"]["set"] == ["model.backbone.window=3"]
    assert written["model"]["dtype"] == "fp32"
    assert written["graph"] is written["compiled"] is False
    assert set(written["p50_ms"]) == {"8", "32"}
    assert "decoded after 32 others" in capsys.readouterr().out


def test_weights_in_bfloat16_decode_too(tmp_path: Path) -> None:
    out = tmp_path / "decode.json"
    assert main([*SMALL, "--dtype", "bf16", "--fused", "--json", str(out)]) in (0, 1)
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["model"]["dtype"] == "bf16"
    assert written["fused"] is True


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--repetitions", "3"), "--repetitions 3: at least 7 are taken"),
        (("--contexts", "8"), "at least two different ones"),
        (("--contexts", "8", "9", "8"), "at least two different ones"),
        (("--contexts", "0", "8"), "from 1 on"),
        (("--tokens", "0"), "--tokens 0"),
        (("--graph",), "--graph records a CUDA graph: it needs --device cuda"),
        (("--compile",), "give both"),
        (("--dtype", "int8"), "int8"),
        (("--device", "abacus"), "--device abacus: cpu or cuda"),
        (("--json", "no/where.json"), "there is no folder no"),
        (("--json", "/proc/x.json"), "no output can be written there"),
        (("--preset", "default"), "only a causal model with a window"),
        (("--preset", "nonesuch"), "nonesuch"),
        (("--set", "model.backbone.window"), "write FIELD=VALUE"),
        (("--set", "model.backbone.widow=3"), "widow"),
        (
            ("--fused", "--set", "model.backbone.use_memory=false"),
            "only the step of a causal block with memory can be fused",
        ),
    ],
)
def test_bad_flags_get_one_sentence(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refusal(main, [*SMALL, *words], capsys)


def test_settings_are_in_tomls_words() -> None:
    assert setting("model.backbone.window=32") == ("model.backbone.window", 32)
    assert setting('data.name="x=y"') == ("data.name", "x=y")
