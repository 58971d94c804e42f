"""Breakages of what proves the project's claims: a proof that cannot fail proves nothing."""

from .breakage import Breakage

REPRODUCE = "verification/test_reproduce.py"
REPLAY = "verification/test_replay.py"

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
)
