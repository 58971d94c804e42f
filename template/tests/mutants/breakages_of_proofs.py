"""Breakages of what proves the project's claims: a proof that cannot fail proves nothing."""

from .breakage import Breakage

REPRODUCE = "verification/test_reproduce.py"
REPLAY = "verification/test_replay.py"
EXACT = "profiling/test_exact.py"
BUDGET = "profiling/test_budget.py"
FIT = "profiling/test_fit_vram.py"

OF_PROOFS = (
    Breakage(
        what="differences are not looked for after the first record",
        file="verification/comparison.py",
        old="    for record in recorded:\n        step, kind",
        new="    for record in recorded[:1]:\n        step, kind",
        test=f"{REPRODUCE}::test_without_a_checkpoint_the_first_step_that_differs_tells",
    ),
    Breakage(
        what="a record that is missing now counts as equal",
        file="verification/comparison.py",
        old="            found.append(\n",
        new="            list[Difference]().append(\n",
        test=f"{REPRODUCE}::test_a_record_that_is_missing_now_is_a_difference",
    ),
    Breakage(
        what="hashes that differ are not seen",
        file="verification/reproduce.py",
        old="if old[name] != new[name]",
        new="if old[name][:0] != new[name][:0]",
        test=f"{REPRODUCE}::test_an_edited_hash_is_different",
    ),
    Breakage(
        what="another number of threads counts as comparable",
        file="verification/conditions.py",
        old='        "threads": (facts["threads"], config.runtime.threads),\n',
        new="",
        test=f"{REPRODUCE}::test_other_threads_are_not_comparable",
    ),
    Breakage(
        what="other data count as the same",
        file="verification/reproduce.py",
        old="return None if now == was else",
        new="return None if now else",
        test=f"{REPRODUCE}::test_an_edited_setting_is_different_and_named",
    ),
    Breakage(
        what="an extended run is trained again in one stretch",
        file="verification/trajectory.py",
        old='steps=each["steps"]',
        new='steps=trajectories[-1]["steps"]',
        test=f"{REPRODUCE}::test_a_stopped_resumed_and_extended_run_is_trained_again_in_the_same_stretches",
    ),
    Breakage(
        what="a failure that is new counts as the same",
        file="verification/reproduce.py",
        old='            if facts["status"] != "failed":\n                raise\n',
        new="",
        test=f"{REPRODUCE}::test_a_failure_that_is_new_is_a_failure",
    ),
    Breakage(
        what="a replay takes the batch of the step before",
        file="verification/replay.py",
        old="first_step=state.step + 1",
        new="first_step=state.step or 1",
        test=f"{REPLAY}::test_the_saved_batch_is_that_of_the_step_also_after_a_kill",
    ),
    Breakage(
        what="a replay shows clipped gradients",
        file="verification/replay.py",
        old="clip_norm=0.0",
        new="clip_norm=config.training.clip_norm",
        test=f"{REPLAY}::test_the_gradients_are_those_before_clipping",
    ),
    Breakage(
        what="a replay of an extended run takes the last learning rates",
        file="verification/replay.py",
        old="return stretches(facts, step)[-1].steps",
        new='return int(facts["steps"])',
        test=f"{REPLAY}::test_after_an_extension_each_step_has_the_learning_rate_it_had",
    ),
    Breakage(
        what="a replay forgets the carry",
        file="verification/replay.py",
        old='groups = {"batch": batch} if carry is None else {"batch": batch, "carry": carry}',
        new='groups = {"batch": batch}',
        test=f"{REPLAY}::test_the_saved_batch_is_that_of_the_step_also_after_a_kill[True]",
    ),
    Breakage(
        what="activations of parameters count too",
        file="profiling/activations.py",
        old="self.outside.joined(self.in_blocks).bytes_without(self.own)",
        new="self.outside.joined(self.in_blocks).bytes_without(Kept())",
        test=f"{EXACT}::test_saved_activations_equal_a_plain_hooks_count",
    ),
    Breakage(
        what="a storage counts once a tensor",
        file="profiling/activations.py",
        old="self.storages[storage._cdata] = storage",
        new="self.storages[len(self.storages)] = storage",
        test=f"{EXACT}::test_shared_weights_by_hand",
    ),
    Breakage(
        what="recomputing keeps all blocks at once",
        file="profiling/activations.py",
        old="max((call.bytes_without(there) for call in self.in_blocks), default=0)",
        new="sum(call.bytes_without(there) for call in self.in_blocks)",
        test=f"{EXACT}::test_recomputing_keeps_inputs_of_blocks_and_one_block",
    ),
    Breakage(
        what="fused attention costs nothing",
        file="profiling/exact.py",
        old="with sdpa_kernel(SDPBackend.MATH), FlopCounterMode",
        new="with FlopCounterMode",
        test=f"{EXACT}::test_attention_by_hand",
    ),
    Breakage(
        what="the average is not in a checkpoint",
        file="profiling/weights.py",
        old="(2 if ema else 1)",
        new="1",
        test=f"{EXACT}::test_bytes_equal_those_on_the_disk[0.9]",
    ),
    Breakage(
        what="one over the budget is within it",
        file="profiling/budget.py",
        old="elif value > budget:",
        new="elif value > budget + 1:",
        test=f"{BUDGET}::test_one_below_the_truth_is_over_and_named",
    ),
    Breakage(
        what="a limit holds on every GPU",
        file="profiling/budget.py",
        old="if known == gpu and name in measured:",
        new="if name in measured:",
        test=f"{BUDGET}::test_limits_hold_on_the_gpu_that_they_name",
    ),
    Breakage(
        what="the plan forgets the gradients",
        file="profiling/fit_vram.py",
        old='        "gradients": nbytes(trainable(model)),\n',
        new='        "gradients": 0,\n',
        test=f"{FIT}::test_what_does_not_grow",
    ),
    Breakage(
        what="the device is not waited for",
        file="profiling/timing.py",
        old="        action()\n        clock.synchronise(device)\n        stop =",
        new="        action()\n        stop =",
        test="profiling/test_timing.py::test_the_device_is_waited_for_inside_the_time",
    ),
    Breakage(
        what="a timing has no box",
        file="profiling/timing.py",
        old="        if stop - began >= limits.box_s:\n            break\n",
        new="",
        test="profiling/test_timing.py::test_the_box_ends_a_timing",
    ),
    Breakage(
        what="p99 of a few samples is their largest",
        file="profiling/timing.py",
        old="if enough else None",
        new="if samples_ms else None",
        test="profiling/test_timing.py::test_p99_needs_a_hundred_samples",
    ),
    Breakage(
        what="a missing GPU passes",
        file="profiling/gpu_bench.py",
        old="            code = 1\n    return code",
        new="    return code",
        test="profiling/test_gpu_bench.py::test_require_gpu_fails_without_one",
    ),
)
