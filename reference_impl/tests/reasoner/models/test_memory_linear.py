"""The linear memory: equal to a loop over tokens, causal, and able to learn and to stay finite."""

import math

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory import routes
from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.linear import surprise
from reference_reasoner.reasoner.models.memory.routes import scan_linear
from reference_reasoner.reasoner.models.memory.sequential import linear_step
from reference_reasoner.reasoner.models.memory.state import LinearState

from .memory_cases import (
    KEYS,
    ROWS,
    VALUES,
    Case,
    assert_close,
    gradients,
    make_case,
    normal,
    resets_of,
)
from .memory_oracle import linear_oracle

KINDS = ["usual", "no_momentum", "mixed", "keep", "forget"]


@pytest.fixture(params=["by_chunk", "graph"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunk after chunk with written-out gradients, as on CPUs, and all at once, as elsewhere."""
    if request.param == "graph":
        monkeypatch.setattr(routes, "by_chunk_serves", lambda x: False)


def _run(case: Case, chunk: int, resets: Tensor | None = None) -> list[Tensor]:
    """What the tokens read, M and S."""
    read, state, kept = scan_linear(
        case.q, case.k, case.v, Gates(*case.gates), LinearState(*case.state),
        chunk=chunk, initial=LinearState(*case.other), resets=resets,
    )  # fmt: skip
    assert not kept  # nobody asked for it
    return [read, *state]


def _plain(case: Case, chunk: int = 1, resets: Tensor | None = None) -> list[Tensor]:
    read, state = linear_oracle(
        case.q, case.k, case.v, case.gates, case.state,
        chunk=chunk, initial=case.other, resets=resets,
    )  # fmt: skip
    return [read, *state]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("chunk", [1, 4, 16, 37, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_a_loop_over_tokens(kind: str, chunk: int) -> None:
    """37 tokens: 4 and 16 do not divide them; so the chunk's size changes nothing either."""
    case = make_case(37, deep=False, kind=kind, grad=True)
    ours, plain = _run(case, chunk), _plain(case)
    assert_close(ours, plain)
    assert_close(gradients(case, ours), gradients(case, plain))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("kind", ["usual", "mixed"])
def test_a_reset_sets_the_state_of_its_row(kind: str, chunk: int) -> None:
    case = make_case(12, deep=False, kind=kind, grad=True)
    resets = resets_of(12 // chunk)
    ours, plain = _run(case, chunk, resets), _plain(case, chunk, resets)
    assert_close(ours, plain)
    assert_close(gradients(case, ours), gradients(case, plain))
    alone = _run(case.part(slice(2 * chunk, None))._replace(state=case.other), chunk)
    assert_close([ours[0][0, 2 * chunk : 3 * chunk]], [alone[0][0, :chunk]])


@pytest.mark.parametrize("kind", ["usual", "mixed"])
def test_a_reset_comes_once_where_a_chunk_is_computed_in_parts(kind: str) -> None:
    case = make_case(2 * 64, deep=False, kind=kind, grad=True)
    resets = resets_of(2)
    ours, plain = _run(case, 64, resets), _plain(case, 64, resets)
    assert_close(ours, plain)
    assert_close(gradients(case, ours), gradients(case, plain))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", ["usual", "mixed"])
def test_gradcheck(kind: str) -> None:
    case = make_case(4, deep=False, kind=kind, grad=True)
    fixed = 5 if kind == "mixed" else None  # log 0 cannot be nudged

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        full = [*leaves]
        if fixed is not None:
            full.insert(fixed, case.gates[2].detach())
        read, state, _ = scan_linear(*full[:3], Gates(*full[3:7]), LinearState(*full[7:9]), chunk=2)
        return read, *state

    leaves = [x for i, x in enumerate(case.leaves()[:9]) if i != fixed]
    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_later_tokens_change_nothing(chunk: int) -> None:
    case = make_case(11, deep=False, grad=True)
    read = _run(case, chunk)[0]
    for token in range(11):
        changed = make_case(11, deep=False)
        with torch.no_grad():
            for x in (changed.q, changed.k, changed.v, *changed.gates):
                x[:, token] *= 0.9
        moved = (_run(changed, chunk)[0] - read).abs().amax((0, 2))
        assert not moved[:token].gt(1e-12).any()
        assert moved[token] > 1e-4
        inputs = [case.q, case.k, case.v, *case.gates[:3]]
        for grad in torch.autograd.grad(read[:, token].sum(), inputs, retain_graph=True):
            assert not grad[:, token + 1 :].any()


@pytest.mark.parametrize("kind", ["usual", "mixed"])
def test_prefill_and_steps_are_the_whole(kind: str) -> None:
    case = make_case(10, deep=False, kind=kind)
    whole = _run(case, 4)
    for prefix in range(11):
        read, *state = _run(case.part(slice(0, prefix)), 4)
        reads, now = [read], LinearState(*state)
        for t in range(prefix, 10):
            gates = Gates(*(gate[:, t] for gate in case.gates))
            out, now = linear_step(case.q[:, t], case.k[:, t], case.v[:, t], gates, now)
            reads.append(out[:, None])
        assert_close([torch.cat(reads, 1), *now], whole)


@pytest.mark.usefixtures("way")
def test_no_tokens_leave_the_state() -> None:
    case = make_case(0, deep=False)
    read, *state = _run(case, 4)
    assert read.shape == (ROWS, 0, VALUES)
    assert_close(state, case.state, 0.0)


def test_without_momentum_and_forgetting_it_is_the_delta_rule() -> None:
    case = make_case(9, deep=False, kind="no_momentum")
    case.gates[1].zero_()
    weights, reads = case.state[0], []
    for t in range(9):
        key, theta = case.k[:, t, :, None], case.gates[0][:, t, None, None]
        update = case.v[:, t, None] - key.mT @ weights
        weights = weights + theta * key @ update
        reads.append(case.q[:, t, None] @ weights)
    read, after, _ = _run(case, 4)
    assert_close([read, after], [torch.cat(reads, 1), weights])


def test_at_rate_zero_it_only_forgets() -> None:
    case = make_case(9, deep=False)
    case.gates[0].zero_()
    case.state[1].zero_()
    _, weights, momentum = _run(case, 4)
    keep = case.gates[1].sum(1).exp()[:, None, None]
    assert_close([weights, momentum], [keep * case.state[0], torch.zeros_like(momentum)])


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_has_at_least_one_token(chunk: int) -> None:
    with pytest.raises(ValueError, match=f"chunk must be at least 1, got {chunk}"):
        _run(make_case(3, deep=False), chunk)


@pytest.mark.parametrize(("tokens", "columns"), [(9, 2), (9, 3), (8, 1), (8, 3)])
def test_resets_need_whole_chunks(tokens: int, columns: int) -> None:
    with pytest.raises(ValueError, match=f"got {columns} columns, {tokens} tokens"):
        _run(make_case(tokens, deep=False), 4, torch.zeros(ROWS, columns, dtype=torch.bool))


def test_resets_need_a_state_to_reset_to() -> None:
    case = make_case(4, deep=False)
    with pytest.raises(ValueError, match="initial is None"):
        scan_linear(
            case.q, case.k, case.v, Gates(*case.gates), LinearState(*case.state),
            chunk=4, resets=resets_of(1),
        )  # fmt: skip


def _repeated(
    tokens: int, *, rate: float, alpha: float, eta: float, width: int = 16
) -> tuple[Tensor, Tensor, Gates, LinearState]:
    """One pair again and again, for an empty memory; float32, rounded to bfloat16."""
    key = torch.nn.functional.normalize(normal(1, 1, width, seed=0), dim=-1).bfloat16().float()
    value = normal(1, 1, width, seed=1).bfloat16().float()
    logs = [math.log1p(-alpha), math.log(eta) if eta else -math.inf]
    gates = Gates(*(torch.full((1, tokens), x) for x in (rate, *logs, 0.0)))
    state = LinearState(*torch.zeros(2, 1, width, width))
    return key.expand(1, tokens, -1), value.expand(1, tokens, -1), gates, state


def _surprises(k: Tensor, v: Tensor, gates: Gates, state: LinearState) -> Tensor:
    """The surprise before each write, and after all, relative to the first."""
    found = []
    for t in range(k.shape[1]):
        found.append(surprise(k[:, :1], v[:, :1], state))
        _, state = linear_step(k[:, t], k[:, t], v[:, t], Gates(*(g[:, t] for g in gates)), state)
    found.append(surprise(k[:, :1], v[:, :1], state))
    return torch.cat(found, 1)[0] / found[0][0, 0]


def test_a_repeated_pair_surprises_less_each_time() -> None:
    left = _surprises(*_repeated(64, rate=0.1, alpha=0.0, eta=0.0))
    assert (left.diff() < 0).all()
    assert left[-1] < 0.01


def test_default_gates_learn_a_pair_in_64_writes() -> None:
    eta, alpha = torch.tensor([0.5, -5.0]).sigmoid().tolist()
    left = _surprises(*_repeated(64, rate=(1 - eta) * 0.5, alpha=alpha, eta=eta))
    assert left[-1] <= 0.05


@pytest.mark.usefixtures("way")
def test_8192_like_tokens_stay_finite() -> None:
    eta, alpha = torch.tensor([0.5, -5.0]).sigmoid().tolist()
    k, v, gates, state = _repeated(8192, rate=(1 - eta) * 0.9, alpha=alpha, eta=eta)
    leaves = [x.clone().requires_grad_() for x in (k, v, *gates[:3], *state)]
    full = Gates(*leaves[2:5], gates.inner_rate)
    read, after, _ = scan_linear(
        *(leaves[0], *leaves[:2]), full, LinearState(*leaves[5:]), chunk=128
    )
    assert read.isfinite().all()
    assert after.weights.norm() < 2 * v[0, 0].norm()
    grads = torch.autograd.grad(read.square().mean() + after.weights.square().sum(), leaves)
    assert all(grad.isfinite().all() and grad.abs().max() < 1e3 for grad in grads)


@pytest.mark.usefixtures("way")
def test_float32_is_close_to_float64() -> None:
    case = make_case(256, deep=False)
    single = Case(*(x.float() for x in case[:3]), *([x.float() for x in xs] for xs in case[3:]))
    assert_close([x.double() for x in _run(single, 64)], _run(case, 64), 1e-4)


@pytest.mark.usefixtures("way")
def test_no_token_keeps_weights_of_its_own() -> None:
    """Nothing that the backward pass needs is as large as a matrix for each token."""
    tokens, width = 256, 32
    x = torch.randn(1, tokens, width, requires_grad=True)
    gates = Gates(*(torch.full((1, tokens), g) for g in (0.5, -0.01, -0.5, 0.0)))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        state = LinearState(*torch.zeros(2, 1, width, width))
        scan_linear(x, x, x, gates, state, chunk=32)
    assert max(sizes) <= tokens * width * width / 8


def test_it_compiles_without_a_break() -> None:
    case = make_case(8, deep=False)
    compiled = torch.compile(_run, fullgraph=True, backend="eager")
    assert_close(compiled(case, 4, resets_of(2)), _run(case, 4, resets_of(2)))


@pytest.mark.parametrize("kind", ["usual", "mixed"])
def test_compiled_it_has_the_same_gradients(kind: str) -> None:
    case = make_case(8, deep=False, kind=kind, grad=True)
    compiled = torch.compile(_run, fullgraph=True, dynamic=False, backend="aot_eager")
    for given in ((4, resets_of(2)), (3, None)):
        found, expected = compiled(case, *given), _run(case, *given)
        assert_close(found, expected)
        assert_close(gradients(case, found), gradients(case, expected))


def test_surprise_is_the_length_of_the_error() -> None:
    case = make_case(3, deep=False)
    found = surprise(case.k, case.v, LinearState(*case.state))
    for n in range(ROWS):
        for t in range(3):
            error = sum(case.k[n, t, d] * case.state[0][n, d] for d in range(KEYS)) - case.v[n, t]
            torch.testing.assert_close(found[n, t], error.square().sum().sqrt())
