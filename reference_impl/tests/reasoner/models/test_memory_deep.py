"""The memory of two layers, in both forms, against a loop over tokens with autograd."""

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory import routes
from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.routes import scan_deep
from reference_reasoner.reasoner.models.memory.sequential import deep_step, read_deep
from reference_reasoner.reasoner.models.memory.state import DeepState

from .memory_cases import (
    ROWS,
    VALUES,
    Case,
    assert_close,
    gradients,
    make_case,
    normal,
    resets_of,
)
from .memory_oracle import (
    deep_oracle,
    descend,
    features,
    lookup,
    loss_gradient,
)

FORMS = ["exact", "stale"]
KINDS = ["usual", "no_momentum", "mixed", "keep", "forget"]


def _state(tensors: list[Tensor]) -> DeepState:
    """At a chunk's start the frozen weights are of no use: NaN shows that none is used."""
    return DeepState(*tensors, tensors[0] * torch.nan, tensors[2] * torch.nan)


@pytest.fixture(params=["by_chunk", "graph"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With written-out gradients, as on CPUs, and with those of autograd, as elsewhere."""
    if request.param == "graph":
        monkeypatch.setattr(routes, "by_chunk_serves", lambda x: False)


def _run(case: Case, chunk: int, form: str, resets: Tensor | None = None) -> list[Tensor]:
    """What the tokens read, W1, S1, W2 and S2."""
    read, state, kept = scan_deep(
        case.q, case.k, case.v, Gates(*case.gates), _state(case.state),
        chunk=chunk, gradient=form, initial=_state(case.other), resets=resets,
    )  # fmt: skip
    assert not kept  # nobody asked for it
    return [read, *state[:4]]


def _plain(case: Case, chunk: int, form: str, resets: Tensor | None = None) -> list[Tensor]:
    read, state = deep_oracle(
        case.q, case.k, case.v, case.gates, case.state,
        chunk=chunk, stale=form == "stale", initial=case.other, resets=resets,
    )  # fmt: skip
    return [read, *state]


def _slow(case: Case) -> Case:
    """Rates at which even the stale form stays small, so that 1e-10 means something."""
    with torch.no_grad():
        case.gates[0].mul_(0.1)
    return case


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 4, 16, 18, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_a_loop_over_tokens(
    kind: str, chunk: int, form: str
) -> None:
    """18 tokens: 4 and 16 do not divide them."""
    case = _slow(make_case(18, deep=True, kind=kind, grad=True))
    ours, plain = _run(case, chunk, form), _plain(case, chunk, form)
    assert_close(ours, plain)
    assert_close(gradients(case, ours), gradients(case, plain))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_reset_sets_the_state_of_its_row(chunk: int, form: str) -> None:
    case = _slow(make_case(12, deep=True, kind="mixed", grad=True))
    resets = resets_of(12 // chunk)
    ours, plain = _run(case, chunk, form, resets), _plain(case, chunk, form, resets)
    assert_close(ours, plain)
    assert_close(gradients(case, ours), gradients(case, plain))
    alone = _run(case.part(slice(2 * chunk, None))._replace(state=case.other), chunk, form)
    assert_close([ours[0][0, 2 * chunk : 3 * chunk]], [alone[0][0, :chunk]])


def test_in_chunks_of_one_token_it_is_gradient_descent() -> None:
    """Both layers at their own weights, on the loss of the token, with nothing frozen."""
    case = make_case(7, deep=True)
    first, first_momentum, second, second_momentum = case.state
    reads = []
    for t in range(7):
        key, value, now = case.k[:, t], case.v[:, t], [gate[:, t] for gate in case.gates]

        def model(w1: Tensor, w2: Tensor, x: Tensor = key) -> Tensor:
            return lookup(features(x, w1, normalise=True), w2)

        grads = (
            loss_gradient(lambda w, s=second: model(w, s), first, value),
            loss_gradient(lambda w, f=first: model(f, w), second, value),
        )
        reading = features(case.q[:, t], first, normalise=True)
        first, first_momentum = descend(first, first_momentum, grads[0], now, now[3])
        second, second_momentum = descend(second, second_momentum, grads[1], now, now[0])
        reads.append(lookup(reading, second))
    plain = [torch.stack(reads, 1), first, first_momentum, second, second_momentum]
    assert_close(_run(case, 1, "exact"), plain)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form: str) -> None:
    case = make_case(3, deep=True, grad=True)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        read, state, _ = scan_deep(
            *leaves[:3], Gates(*leaves[3:7]), _state(list(leaves[7:])), chunk=2, gradient=form
        )
        return read, *state[:4]

    assert torch.autograd.gradcheck(run, case.leaves()[:11])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_later_tokens_change_nothing(chunk: int, form: str) -> None:
    case = make_case(9, deep=True, grad=True)
    read = _run(case, chunk, form)[0]
    for token in range(9):
        changed = make_case(9, deep=True)
        for x in (changed.q, changed.k, changed.v, *changed.gates):
            x[:, token] *= 0.9
        moved = (_run(changed, chunk, form)[0] - read).abs().amax((0, 2))
        assert not moved[:token].gt(1e-12).any()
        assert moved[token] > 1e-4
        inputs = [case.q, case.k, case.v, *case.gates]
        grads = torch.autograd.grad(
            read[:, token].sum(), inputs, retain_graph=True, materialize_grads=True
        )
        for grad in grads:
            assert not grad[:, token + 1 :].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_prefill_and_steps_are_the_whole(chunk: int, form: str) -> None:
    case = make_case(10, deep=True, kind="mixed")
    whole = _run(case, chunk, form)
    for prefix in range(11):
        now = _state(case.state)
        some = case.part(slice(0, prefix))
        read, now, _ = scan_deep(
            some.q, some.k, some.v, Gates(*some.gates), now, chunk=chunk, gradient=form
        )
        reads = [read]
        for t in range(prefix, 10):
            gates = Gates(*(gate[:, t] for gate in case.gates))
            out, now = deep_step(
                case.q[:, t], case.k[:, t], case.v[:, t], gates, now,
                chunk=chunk, gradient=form, position=t,
            )  # fmt: skip
            reads.append(out[:, None])
            torch.testing.assert_close(
                read_deep(case.q[:, t : t + 1], now, gradient=form)[:, 0], out
            )
        assert_close([torch.cat(reads, 1), *now[:4]], whole)


def test_the_frozen_weights_are_those_of_the_chunks_start() -> None:
    case = make_case(10, deep=True)
    some = case.part(slice(0, 8))
    _, before, _ = scan_deep(*some[:3], Gates(*some.gates), _state(case.state), chunk=4)
    _, after, _ = scan_deep(*case[:3], Gates(*case.gates), _state(case.state), chunk=4)
    assert_close(after[4:], [before.first, before.second])


def test_frozen_weights_have_a_gradient_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(10, deep=True, grad=True)
    found = []
    for serves in (True, False):
        monkeypatch.setattr(routes, "by_chunk_serves", lambda x, serves=serves: serves)
        _, state, _ = scan_deep(*case[:3], Gates(*case.gates), _state(case.state), chunk=4)
        found.append(gradients(case, state[4:]))
    assert_close(*found)
    assert all(any(grad.abs().sum() > 0 for grad in grads) for grads in found)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("form", FORMS)
def test_no_tokens_leave_the_state(form: str) -> None:
    case = make_case(0, deep=True)
    read, *state = _run(case, 4, form)
    assert read.shape == (ROWS, 0, VALUES)
    assert_close(state, case.state, 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_at_rates_zero_it_only_forgets(form: str) -> None:
    case = make_case(9, deep=True)
    for x in (case.gates[0], case.gates[3], case.state[1], case.state[3]):
        x.zero_()
    _, first, _, second, _ = _run(case, 4, form)
    keep = case.gates[1].sum(1).exp()[:, None, None]
    assert_close([first, second], [keep * case.state[0], keep * case.state[2]])


@pytest.mark.parametrize(("chunk", "message"), [(0, "at least 1, got 0"), (4, "got 2 columns")])
def test_bad_chunks_are_refused(chunk: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run(make_case(9, deep=True), chunk, "exact", resets_of(2))


def test_resets_need_a_state_to_reset_to() -> None:
    case = make_case(4, deep=True)
    with pytest.raises(ValueError, match="initial is None"):
        scan_deep(
            *case[:3], Gates(*case.gates), _state(case.state), chunk=4, resets=resets_of(1)
        )  # fmt: skip


def _default_gates(tokens: int, rate: float = 0.0) -> Gates:
    """The gates that NeuralMemory starts with; `rate` is theta's before the sigmoid."""
    raw = torch.tensor([rate, -5.0, 0.5, -4.0])
    fresh = (-raw[2]).sigmoid()
    logs = torch.nn.functional.logsigmoid(torch.stack([-raw[1], raw[2]]))
    all_four = (fresh * raw[0].sigmoid(), *logs, fresh * raw[3].sigmoid())
    return Gates(*(each.expand(1, tokens) for each in all_four))


def _repeated(tokens: int, width: int = 16) -> tuple[Tensor, Tensor, DeepState]:
    """One pair again and again; float32, rounded to bfloat16; a memory as it starts."""
    key = torch.nn.functional.normalize(normal(1, 1, width, seed=0), dim=-1).bfloat16().float()
    value = normal(1, 1, width, seed=1).bfloat16().float()
    first = normal(1, width, 2 * width, seed=2).float() * width**-0.5
    second = normal(1, 2 * width, width, seed=3).float() * (2 * width) ** -0.5
    state = DeepState(first, 0 * first, second, 0 * second, first, second)
    return key.expand(1, tokens, -1), value.expand(1, tokens, -1), state


@pytest.mark.parametrize("chunk", [1, 64])
def test_default_gates_learn_a_pair_in_64_writes(chunk: int) -> None:
    k, v, state = _repeated(64)
    read, _, _ = scan_deep(k, k, v, _default_gates(64), state, chunk=chunk)
    before = (read_deep(k[:, :1], state) - v[:, :1]).norm()
    assert (read[:, -1] - v[:, -1]).norm() <= 0.05 * before


def test_a_repeated_pair_surprises_less_each_time() -> None:
    k, v, state = _repeated(64)
    gates = Gates(*(torch.full((1, 64), x) for x in (0.1, 0.0, -torch.inf, 0.01)))
    read, _, _ = scan_deep(k, k, v, gates, state, chunk=16)
    left = (read - v).norm(dim=-1)[0]
    assert (left.diff() < 0).all()
    assert left[-1] < 0.01 * left[0]


@pytest.mark.usefixtures("way")
def test_8192_like_tokens_stay_finite() -> None:
    k, v, state = _repeated(8192)
    leaves = [x.clone().requires_grad_() for x in (k, v, *_default_gates(8192, 2.0), *state[:4])]
    start = DeepState(*leaves[6:], *state[4:])
    read, after, _ = scan_deep(leaves[0], *leaves[:2], Gates(*leaves[2:6]), start, chunk=128)
    assert read.isfinite().all()
    assert after.second.norm() < 2 * v[0, 0].norm()
    assert after.first.norm() < 2 * state.first.norm()
    grads = torch.autograd.grad(read.square().mean() + after.first.square().sum(), leaves)
    assert all(grad.isfinite().all() and grad.abs().max() < 1e3 for grad in grads)


@pytest.mark.usefixtures("way")
def test_no_token_keeps_weights_of_its_own() -> None:
    """Nothing that the backward pass needs is as large as the weights of many tokens."""
    tokens, width = 256, 32
    x = torch.randn(1, tokens, width, requires_grad=True)
    state = DeepState(*torch.randn(6, 1, width, width))
    for form in FORMS:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            scan_deep(x, x, x, _default_gates(tokens), state, chunk=32, gradient=form)
        assert max(sizes) <= tokens * width * width / 8


@pytest.mark.parametrize("form", FORMS)
def test_it_compiles_without_a_break(form: str) -> None:
    case = make_case(8, deep=True)
    compiled = torch.compile(_run, fullgraph=True, backend="eager")
    assert_close(compiled(case, 4, form, resets_of(2)), _run(case, 4, form, resets_of(2)))


@pytest.mark.parametrize("kind", ["usual", "mixed"])
def test_compiled_it_has_the_same_gradients(kind: str) -> None:
    case = make_case(8, deep=True, kind=kind, grad=True)
    compiled = torch.compile(_run, fullgraph=True, dynamic=False, backend="aot_eager")
    for given in ((4, "exact", resets_of(2)), (3, "exact", None)):
        found, expected = compiled(case, *given), _run(case, *given)
        assert_close(found, expected)
        assert_close(gradients(case, found), gradients(case, expected))
