"""A plan for a given memory, as `profile --fit-vram` prints it."""

from .fit_vram import CONTEXT_BYTES, SLACK, Plan, shown


def plan_lines(plan: Plan) -> list[str]:
    """Everything that is counted, what fits, and which flags to take."""
    counted = f"counted in {plan.precision} on {plan.counted_on}"
    lines = [f"what fits {shown(plan.memory_bytes)} ({counted})"]
    lines += [
        f"  {name.replace('_', ' '):<38}{shown(size):>12}"
        for name, size in plan.fixed_bytes.items()
    ]
    lines.append(f"  {'reserve':<38}{shown(CONTEXT_BYTES):>12} + {SLACK:.0%} of the rest")
    lines.append(f"  {'an example, itself and its loss':<38}{shown(plan.ends.per_example):>12}")
    for option in plan.options:
        name = "recomputed" if option.activation_checkpointing else "kept"
        line = plan.activations[option.activation_checkpointing]
        always = f" + {shown(line.constant)} at any size" if line.constant else ""
        label = f"an example, activations {name}"
        lines.append(f"  {label:<38}{shown(line.per_example):>12}{always}")
        fits = f"micro-batch {option.micro_batch} x {option.accumulation_steps} accumulation steps"
        said = fits if option.micro_batch else "not one example fits: it"
        lines.append(f"    {said} needs {shown(option.need_bytes)}")
    if plan.chosen is None:
        return [*lines, f"nothing fits: {plan.why}"]
    flag = str(plan.chosen.activation_checkpointing)
    return [
        *lines,
        f"take --training.accumulation_steps {plan.chosen.accumulation_steps} "
        f"--training.activation_checkpointing {flag} for the batch of {plan.batch_size}",
        f"because {plan.why}",
    ]
