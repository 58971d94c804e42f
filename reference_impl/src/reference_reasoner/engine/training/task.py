"""What the training loop asks of a task.

A plain task overrides `build_model`, `datasets`, `loss` and `predict`, and names its scores.
A carry (state that lives from one step to the next, such as the latents of rows that have
not halted) is a dict of tensors whose first dimension is the batch, in global order: the
loop splits, joins and saves it without knowing what it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from ..config.run_config import RunConfig
from ..data.dataset import Batch, Dataset, Splits
from ..errors import RefusedInputError
from ..seeding import derive, torch_generator

Carry = dict[str, Tensor]
ConfigT = TypeVar("ConfigT", bound=RunConfig)
Preset = Callable[[], RunConfig]
Backend = str | Callable[..., Any]
"""Of torch.compile."""


@dataclass(frozen=True, kw_only=True)
class StepKeys:
    """The keys of one micro-batch's randomness."""

    seed: int
    step: int
    micro: int
    rank: int

    def generator(self, *purpose: int | str) -> torch.Generator:
        """A CPU generator of this micro-batch's own for `purpose`."""
        return torch_generator(self.seed, *purpose, self.step, self.micro, self.rank)

    def dropout_seed(self) -> int:
        """What the global generators are seeded with before this micro-batch."""
        return derive(self.seed, "dropout", self.step, self.micro, self.rank)


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """What one micro-batch gives back."""

    terms: Mapping[str, Tensor]
    """{term: weighted sum over this micro-batch's valid targets}, scalars with a graph."""
    metrics: Mapping[str, float | Tensor] = field(default_factory=dict)
    """What to record beside the loss; averaged over the micro-batches."""
    carry: Carry | None = None
    """This micro-batch's rows of the next step's carry, detached."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One example's prediction, as stored. `target` and `output` are JSON values."""

    example_id: int
    target: Any
    output: Any
    confidence: float | None = None
    """The model's probability of being right, in [0, 1], where it has one."""
    slices: Mapping[str, str] = field(default_factory=dict)
    """{slice name: value} to break scores down by."""


@dataclass(frozen=True, kw_only=True)
class ReportSection:
    """One part of the report that a task adds; pictures are .png or .gif in the report folder."""

    title: str
    text: str = ""
    pictures: Sequence[str] = ()
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    """(header, rows)"""


@dataclass(frozen=True, kw_only=True)
class FileExamples:
    """What a file that a person hands in has to be scored."""

    dataset: Dataset
    left_out: Sequence[str]
    """A line about each part of the file that cannot be scored."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Something that a model is asked to do with one example, and that is worth timing."""

    name: str
    """A short identifier, such as `full_depth`."""
    description: str
    """What exactly runs, in a few words; it is printed and stored with the number."""
    run: Callable[[], object]
    compiles: bool = True
    """Whether its blocks compile in seconds: not where they unroll a loop over the input."""
    graphed: Callable[[torch.dtype, Backend | None], Callable[[], object]] | None = None
    """Makes it ready to run by CUDA graphs, with weights of that dtype and its blocks compiled by
    that backend or not at all; what it returns runs. None where it cannot."""


class Task(Generic[ConfigT]):
    """A task: data set, model, loss and scores under one name; what a user writes.

    Subclasses set the class variables and override the methods that raise here.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[RunConfig]]
    presets: ClassVar[Mapping[str, Preset]]
    """{preset name: function that returns its config}; `default` and `smoke` among them."""
    primary_metric: ClassVar[str]
    """The score that decides what is best."""
    direction: ClassVar[Literal["max", "min"]] = "max"
    causal: ClassVar[bool] = False
    """Whether an output must not depend on later positions of the input."""
    repeats_blocks: ClassVar[bool] = False
    """Whether a call of the model applies the members of its nn.ModuleLists many times.

    `runtime.compile` then compiles each of them: one graph of the call would unroll it, and take
    minutes to compile.
    """
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """{variation: {dotted field: value}}: what `study ablate` compares unless it is told."""
    per_micro_batch: ClassVar[frozenset[str]] = frozenset()
    """Terms that are not sums over rows: averaged over micro-batches, not divided by a count."""

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    def build_model(self) -> nn.Module:
        """The untrained model; its initial weights may use the global torch generator."""
        raise NotImplementedError

    def datasets(self) -> Splits:
        """The three splits. Raises RefusedInputError where the data cannot be used."""
        raise NotImplementedError

    def begin(self, carry: Carry | None, candidates: Batch) -> tuple[Batch, Carry | None]:
        """The batch to train on and its carry; by default the candidates, and no carry.

        `candidates` always holds one full batch; candidates not taken are dropped.
        `carry` is None at the first step.
        """
        return candidates, None

    def counts(self, batch: Batch, carry: Carry | None) -> dict[str, int]:
        """{term: number of valid targets} over the whole global batch, before the forward pass.

        By default every row is one valid target of the only term, `loss`.
        """
        return {"loss": len(next(iter(batch.values())))}

    def loss(
        self, model: nn.Module, batch: Batch, carry: Carry | None, keys: StepKeys
    ) -> LossOutput:
        """The loss terms of one micro-batch as weighted sums; the loop divides by the counts."""
        raise NotImplementedError

    def predict(self, model: nn.Module, batch: Batch) -> list[Row]:
        """One row an example; `model` is in eval mode and no gradient is kept."""
        raise NotImplementedError

    def use_validation(self, scores: Mapping[str, float]) -> None:
        """Take over what was tuned on validation, such as a threshold, for other predictions.

        `scores` are those of the very weights that are to predict; by default nothing is.
        """

    def scores(self, rows: Sequence[Row]) -> dict[str, float]:
        """{metric: value} from predictions alone; `primary_metric` among them."""
        raise NotImplementedError

    def report_sections(self, rows: Sequence[Row], folder: Path) -> list[ReportSection]:
        """The task's own part of the report; pictures are written into `folder`."""
        return []

    def inspection_sections(
        self, model: nn.Module, rows: Sequence[Row], examples: Dataset, folder: Path
    ) -> list[ReportSection]:
        """What only the trained model can tell, such as what goes on inside it; by default nothing.

        `model` has the best weights, is in eval mode and on the run's device, and no gradient is
        kept; `examples` are the validation split, `rows` its predictions of them.
        """
        return []

    def facts(self) -> dict[str, Any]:
        """What run.json says of the task beside its config, as JSON values; by default nothing."""
        return {}

    def with_steps(self, steps: int) -> "Task[ConfigT]":
        """The same task, whose model takes at most so many steps of its own for a prediction.

        Raises RefusedInputError where a prediction takes no steps, which is the default.
        """
        raise RefusedInputError(
            f"a model of the task {self.name!r} takes no steps of its own: leave --steps out"
        )

    def examples_of(self, path: Path) -> FileExamples:
        """The examples in a file that a person hands in.

        Raises RefusedInputError for a file without any, and where the task reads no files, which
        is the default.
        """
        raise RefusedInputError(f"the task {self.name!r} reads no files: leave --file out")

    def example_input(self) -> tuple[Any, ...]:
        """Positional arguments of one forward call with batch size 1, for profiling."""
        raise NotImplementedError

    def example_candidate(self) -> Batch | None:
        """One example as the training split gives it, made without any file, for profiling.

        With it `gpu_bench` takes real steps, carry and loss included, and `--fit-vram` counts
        the carry; by default there is none, and steps are taken on noise.
        """
        return None

    def workloads(self, model: nn.Module) -> Sequence[Workload]:
        """What `gpu_bench` times; the first is what the latency budget is for.

        `model` is in eval mode and on its device, and no gradient is kept. By default nothing
        but one forward call of `example_input()`.
        """
        return ()
