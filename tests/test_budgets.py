"""The shipped budgets, once more: whoever raises one does it twice, and on purpose."""

import tomllib
from pathlib import Path

import jinja2

TEMPLATE = Path(__file__).resolve().parent.parent / "template"

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
    },
}


def test_no_shipped_budget_is_raised_by_accident() -> None:
    text = (TEMPLATE / "budgets.toml.jinja").read_text(encoding="utf-8")
    rendered = {
        example: tomllib.loads(jinja2.Template(text).render(example=example)) for example in SHIPPED
    }
    assert rendered == SHIPPED
