import pytest
import torch

from reference_reasoner.engine.profiling.measured import roofline as ceilings
from reference_reasoner.engine.profiling.measured.machine import Limits
from reference_reasoner.engine.profiling.measured.roofline import (
    Ceilings,
    Sizes,
    measured_ceilings,
)

from ..fakes import fake_cpu

SIZES = Sizes(copy_bytes=4000, matrix_rows=10)
LIMITS = Limits(warm_up=1, samples=3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_ceilings_are_what_was_done_by_the_time_it_took(precision: str) -> None:
    # the clock moves on by 1 ms from one look at it to the next
    roof = measured_ceilings(fake_cpu(0.001), precision, LIMITS, SIZES)
    assert roof.bytes_per_s == pytest.approx(2 * 4000 / 0.001)
    assert roof.flops_per_s == pytest.approx(2 * 10**3 / 0.001)
    assert roof.ridge == pytest.approx(2000 / 8000)


def test_products_are_measured_in_the_precision_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    really = torch.mm

    def product(left: torch.Tensor, right: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        seen.append((left.dtype, right.dtype, tuple(left.shape)))
        return really(left, right, **more)

    monkeypatch.setattr(torch, "mm", product)
    measured_ceilings(fake_cpu(), "bf16", LIMITS, SIZES)
    assert set(seen) == {(torch.bfloat16, torch.bfloat16, (10, 10))}


def test_the_ceiling_of_products_is_the_faster_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    if ceilings._ONEDNN is None:
        pytest.skip("this build of torch has no oneDNN")
    copied, *products = seconds = [3.0, 2.0, 0.5]
    monkeypatch.setattr(ceilings, "_median_s", lambda *_: seconds.pop(0))
    roof = measured_ceilings(fake_cpu(), "fp32", LIMITS, SIZES)
    assert roof.bytes_per_s == 2 * 4000 / copied
    assert roof.flops_per_s == 2 * 10**3 / min(products)
    assert not seconds


def test_the_roof_is_the_higher_of_two_times() -> None:
    roof = Ceilings(bytes_per_s=10.0, flops_per_s=40.0)
    assert roof.ridge == 4.0
    assert roof.bound_s(flops=80.0, moved_bytes=10.0) == 2.0
    assert roof.bound_s(flops=10.0, moved_bytes=10.0) == 1.0
    assert roof.bound_s(flops=0.0, moved_bytes=0.0) == 0.0
