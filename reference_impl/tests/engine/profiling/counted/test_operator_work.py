"""FLOPs and bytes of operators, worked out by hand."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import embedding, scaled_dot_product_attention

from reference_reasoner.engine.profiling.counted.passes import Call, counted_calls


def only(action: Callable[[], object]) -> Call:
    """The one call that moves something."""
    (call,) = (call for call in counted_calls(action) if call.moved_bytes)
    return call


A, B = torch.ones(3, 5), torch.ones(5, 7)
ROWS = torch.tensor([0, 2])
STRICT = torch.eye(4).expand(2, 4, 4).contiguous()


@pytest.mark.parametrize(
    ("action", "operator", "flops", "numbers"),
    [
        (lambda: A @ B, "mm", 2 * 3 * 5 * 7, 3 * 5 + 5 * 7 + 3 * 7),
        (lambda: A + A, "add", 15, 15 + 15 + 15),
        (lambda: torch.sigmoid(A), "sigmoid", 15, 15 + 15),
        (lambda: A.clone().exp_(), "exp_", 15, 15 + 15),
        (lambda: A.sum(0), "sum", 0, 15 + 5),
        # a bias of 7 numbers is read once, however many rows it is added to
        (lambda: torch.addmm(B[0], A, B), "addmm", 2 * 3 * 5 * 7, 7 + 15 + 35 + 21),
        (lambda: A[:1].expand(3, 5) * 2, "mul", 15, 5 + 15),
        # of a table only the rows that are asked for are read; two positions are 4 numbers
        (lambda: embedding(ROWS, A), "embedding", 0, 4 + 10 + 10),
        (lambda: A.index_select(0, ROWS), "index_select", 0, 4 + 10 + 10),
        (lambda: torch.mm(A, B, out=torch.empty(3, 7)), "mm", 2 * 3 * 5 * 7, 15 + 35 + 21),
        (lambda: torch.empty(3, 5).copy_(A), "copy_", 0, 15 + 15),
        (lambda: torch.empty(3, 5).zero_(), "zero_", 0, 15),
        # two rows are read, and written to their places
        (
            lambda: torch.empty(9, 5).index_copy_(0, ROWS, A[:2]),
            "index_copy_",
            0,
            4 + 10 + 10,
        ),
        # substitution: 4 * 3 / 2 multiply-adds and 4 divisions a column, 16 FLOPs
        (
            lambda: torch.linalg.solve_triangular(STRICT, STRICT, upper=False),
            "linalg_solve_triangular",
            2 * 4 * 16,
            3 * 32,
        ),
    ],
)  # fmt: skip
def test_flops_and_bytes_by_hand(
    action: Callable[[], object], operator: str, flops: int, numbers: int
) -> None:
    calls = [call for call in counted_calls(action) if call.operator == f"aten::{operator}"]
    assert calls == [Call(operator=f"aten::{operator}", flops=flops, moved_bytes=4 * numbers)]


def test_views_and_allocations_move_nothing() -> None:
    def look() -> None:
        A.t().unsqueeze(0).expand(4, 5, 3)[1:].detach()
        torch.empty(100)

    assert [call for call in counted_calls(look) if call.moved_bytes or call.flops] == []


def test_attention_on_a_cpu_is_counted() -> None:
    q = torch.ones(2, 4, 16, 8, requires_grad=True)
    forward = only(lambda: scaled_dot_product_attention(q, q, q))
    products = 2 * 2 * 4 * 16 * 16 * 8  # q k^T, as many again for the values
    assert forward.flops == 2 * products
    backward = counted_calls(lambda: scaled_dot_product_attention(q, q, q).sum().backward())
    (back,) = (call for call in backward if call.operator.endswith("_backward"))
    assert back.flops == 5 * products


def test_without_gradients_composed_operators_are_taken_apart() -> None:
    linear = torch.nn.Linear(5, 7)

    def inferred() -> None:
        with torch.inference_mode():
            linear(A)

    assert only(inferred) == only(lambda: linear(A))
    assert only(inferred).operator == "aten::addmm"
