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
            "checkpoint_bytes": 1_915_380,
            "forward_flops_per_example": 137_552_128,
            "graph_breaks": 0,
            "optimizer_bytes": 1_276_624,
            "parameters": 159_561,
            "saved_activation_bytes_per_example": 9_497_816,
            "trainable_parameters": 159_561,
            "training_flops_per_example": 386_835_200,
        },
        "smoke": {
            "checkpoint_bytes": 247_452,
            "forward_flops_per_example": 4_392_928,
            "graph_breaks": 0,
            "optimizer_bytes": 123_508,
            "parameters": 15_429,
            "saved_activation_bytes_per_example": 351_824,
            "trainable_parameters": 15_429,
            "training_flops_per_example": 7_146_944,
        },
    },
}


def test_no_shipped_budget_is_raised_by_accident() -> None:
    text = (TEMPLATE / "budgets.toml.jinja").read_text(encoding="utf-8")
    rendered = {
        example: tomllib.loads(jinja2.Template(text).render(example=example)) for example in SHIPPED
    }
    assert rendered == SHIPPED
