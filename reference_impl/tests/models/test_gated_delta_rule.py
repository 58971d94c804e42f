"""Without momentum the exact linear memory is the public gated delta rule.

Its numbers are of flash-linear-attention; gated_delta_rule.json says how they were made, and which
change of variables makes the two equal.
"""

import pytest
import torch

from reference_reasoner.models.memory_gates import Gates
from reference_reasoner.models.memory_linear import LinearState, linear_memory

from .formulas import gated_delta_rule_inputs, reference


@pytest.mark.parametrize("chunk", [1, 5, 12, 64])
def test_it_is_the_gated_delta_rule(chunk: int) -> None:
    stored = reference("gated_delta_rule")
    given = gated_delta_rule_inputs()
    for name, total in stored["input_sums"].items():
        assert float(given[name].sum()) == pytest.approx(total, abs=1e-12)
    theta, alpha = given["theta"], given["alpha"]
    gates = Gates(theta, (-alpha).log1p(), torch.full_like(theta, -torch.inf), theta)
    zero = torch.zeros(2, 8, 8, dtype=torch.float64)
    out, state = linear_memory(
        given["q"], given["k"], given["v"], gates, LinearState(zero, zero), chunk=chunk
    )
    wanted = torch.tensor(stored["output"], dtype=torch.float64)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    memory = torch.tensor(stored["final_memory"], dtype=torch.float64)
    torch.testing.assert_close(state.weights, memory, rtol=0, atol=1e-12)
