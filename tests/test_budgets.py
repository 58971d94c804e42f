"""The shipped budgets, once more: whoever raises one does it twice, and on purpose."""

import tomllib
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).resolve().parent.parent / "template"
FOLDERS = {"classifier": "digits", "recursive_reasoner": "reasoner"}

SHIPPED = {
    "classifier": {
        "default": {
            "checkpoint_bytes": 917_760,
            "forward_flops_per_example": 7_117_312,
            "graph_breaks": 0,
            "optimizer_bytes": 458_928,
            "parameters": 57_354,
            "saved_activation_bytes_per_example": 116_192,
            "trainable_parameters": 57_354,
            "training_flops_per_example": 21_315_072,
        },
        "smoke": {
            "checkpoint_bytes": 66_216,
            "forward_flops_per_example": 609_536,
            "graph_breaks": 0,
            "optimizer_bytes": 44_160,
            "parameters": 5_514,
            "saved_activation_bytes_per_example": 25_392,
            "trainable_parameters": 5_514,
            "training_flops_per_example": 1_810_176,
        },
    },
    "recursive_reasoner": {
        "default": {
            "checkpoint_bytes": 4_951_004,
            "forward_flops_per_example": 54_430_080,
            "graph_breaks": 0,
            "optimizer_bytes": 2_474_804,
            "parameters": 309_333,
            "saved_activation_bytes_per_example": 3_114_048,
            "trainable_parameters": 309_333,
            "training_flops_per_example": 163_290_240,
        },
        "smoke": {
            "checkpoint_bytes": 254_688,
            "forward_flops_per_example": 2_791_552,
            "graph_breaks": 0,
            "optimizer_bytes": 127_128,
            "parameters": 15_881,
            "saved_activation_bytes_per_example": 245_824,
            "trainable_parameters": 15_881,
            "training_flops_per_example": 5_589_376,
        },
        "grid25m": {
            "checkpoint_bytes": 409_720_868,
            "forward_flops_per_example": 110_123_742_720,
            "graph_breaks": 0,
            "halting_latency_p50_ms": {"NVIDIA H100 80GB HBM3": 8, "NVIDIA H200": 8},
            "inference_peak_vram_mib": {"any GPU": 476},
            "latency_p50_ms": {"NVIDIA H100 80GB HBM3": 20, "NVIDIA H200": 20},
            "optimizer_bytes": 204_854_364,
            "parameters": 25_606_777,
            "peak_vram_mib": {"any GPU": 4959},
            "saved_activation_bytes_per_example": 378_502_696,
            "trainable_parameters": 25_606_777,
            "training_flops_per_example": 183_541_400_064,
        },
        "lm25m": {
            "checkpoint_bytes": 410_832_352,
            "forward_flops_per_example": 352_883_968_000,
            "graph_breaks": 0,
            "inference_peak_vram_mib": {"any GPU": 476},
            "latency_p50_ms": {"NVIDIA H100 80GB HBM3": 8, "NVIDIA H200": 8},
            "optimizer_bytes": 205_412_248,
            "parameters": 25_676_489,
            "peak_vram_mib": {"any GPU": 4959},
            "saved_activation_bytes_per_example": 4_307_215_104,
            "trainable_parameters": 25_676_489,
            "training_flops_per_example": 1_057_309_726_720,
        },
        "trm7m": {
            "checkpoint_bytes": 109_322_320,
            "forward_flops_per_example": 28_577_580_032,
            "graph_breaks": 0,
            "optimizer_bytes": 54_624_320,
            "parameters": 6_828_034,
            "saved_activation_bytes_per_example": 64_916_152,
            "trainable_parameters": 6_828_034,
            "training_flops_per_example": 47_630_519_296,
        },
        "trm7m_mixing": {
            "checkpoint_bytes": 80_535_632,
            "forward_flops_per_example": 25_632_306_176,
            "graph_breaks": 0,
            "optimizer_bytes": 40_230_976,
            "parameters": 5_028_866,
            "saved_activation_bytes_per_example": 103_452_608,
            "trainable_parameters": 5_028_866,
            "training_flops_per_example": 42_721_729_536,
        },
    },
}
MIB = 2**20


def shipped(example: str) -> dict[str, Any]:
    """The budgets that stand in this example's folder."""
    path = TEMPLATE / "src" / "{{ package_name }}" / FOLDERS[example] / "budgets.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_no_shipped_budget_is_raised_by_accident() -> None:
    assert {example: shipped(example) for example in SHIPPED} == SHIPPED


def test_the_reference_model_keeps_the_sizes_that_it_was_ordered_with() -> None:
    ordered = shipped("recursive_reasoner")["grid25m"]
    assert abs(ordered["parameters"] - 25_000_000) <= 1_000_000
    assert max(ordered["latency_p50_ms"].values()) <= 20
    assert max(ordered["halting_latency_p50_ms"].values()) <= 8
    assert max(shipped("recursive_reasoner")["lm25m"]["latency_p50_ms"].values()) <= 8


def test_the_reference_models_fit_the_memory_that_they_were_ordered_with() -> None:
    for preset in ("grid25m", "lm25m"):
        ordered = shipped("recursive_reasoner")[preset]
        for name, most_bytes in (("peak_vram_mib", 5.2e9), ("inference_peak_vram_mib", 0.5e9)):
            assert max(ordered[name].values()) * MIB <= most_bytes
            assert "any GPU" in ordered[name]
