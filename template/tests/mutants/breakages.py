"""Breakages of training and evaluation."""

from .breakage import Breakage

RESUME = "training/test_resume.py::test_two_crashes_within_an_epoch_change_nothing"
STEP = "training/test_step.py"
PARTS = "training/test_parts.py"
CHECKPOINT = "training/test_checkpoint.py"
SESSION = "training/test_session.py"
EVALUATE = "evaluation/test_evaluate.py"

BREAKAGES = (
    Breakage(
        what="gradients of the last step are not cleared",
        file="training/step.py",
        old="    state.optimizer.zero_grad(set_to_none=True)\n",
        new="",
        test=f"{STEP}::test_two_steps_do_not_add_up_their_gradients",
    ),
    Breakage(
        what="all terms are divided by the largest count",
        file="training/step.py",
        old="value / counts[name]",
        new="value / max(counts.values())",
        test=f"{STEP}::test_a_step_equals_its_plain_twin",
    ),
    Breakage(
        what="a term that is no sum is not averaged",
        file="training/step.py",
        old="value / parts",
        new="value",
        test=f"{STEP}::test_a_term_that_is_no_sum_is_averaged_over_micro_batches",
    ),
    Breakage(
        what="gradients are not clipped",
        file="training/step.py",
        old="training.clip_norm or math.inf",
        new="math.inf",
        test=f"{STEP}::test_a_step_equals_its_plain_twin",
    ),
    Breakage(
        what="dropout is not keyed",
        file="training/step.py",
        old="        seed_globals(keys.dropout_seed())\n",
        new="",
        test=f"{RESUME}[no carry]",
    ),
    Breakage(
        what="the learning rate lags one step behind",
        file="training/step.py",
        old="rate = learning_rate(step, training)",
        new="rate = learning_rate(step - 1, training)",
        test=f"{STEP}::test_a_step_equals_its_plain_twin",
    ),
    Breakage(
        what="the cosine has the wrong sign",
        file="training/optim.py",
        old="(1 + math.cos(",
        new="(1 - math.cos(",
        test=f"{PARTS}::test_cosine_rises_and_falls_to_its_final_ratio",
    ),
    Breakage(
        what="biases decay too",
        file="training/optim.py",
        old='"weight_decay": 0.0',
        new='"weight_decay": training.weight_decay',
        test=f"{PARTS}::test_weight_decay_leaves_biases_alone",
    ),
    Breakage(
        what="the average forgets where it should remember",
        file="training/ema.py",
        old="1 - self.decay",
        new="self.decay",
        test=f"{STEP}::test_ema_follows_the_weights",
    ),
    Breakage(
        what="the optimizer is not restored",
        file="training/state.py",
        old='    "optimizer": _restore_optimizer,\n',
        new="",
        test=f"{RESUME}[carry]",
    ),
    Breakage(
        what="the carry is not restored",
        file="training/state.py",
        old='    "carry": _restore_carry,\n',
        new="",
        test=f"{RESUME}[carry]",
    ),
    Breakage(
        what="the averaged weights are not restored",
        file="training/state.py",
        old='    "ema": _restore_ema,\n',
        new="",
        test=f"{RESUME}[ema]",
    ),
    Breakage(
        what="a saved file is not flushed to the disk",
        file="training/checkpoint.py",
        old="            os.fsync(file.fileno())\n",
        new="",
        test=f"{CHECKPOINT}::test_everything_is_on_the_disk_before_it_has_its_name",
    ),
    Breakage(
        what="the parent folder is not flushed after the rename",
        file="training/checkpoint.py",
        old="        _sync(parent)\n",
        new="",
        test=f"{CHECKPOINT}::test_everything_is_on_the_disk_before_it_has_its_name",
    ),
    Breakage(
        what="sums are not compared",
        file="training/checkpoint.py",
        old=".hexdigest() != sums[name]",
        new=".hexdigest() == name",
        test=f"{CHECKPOINT}::test_a_flipped_byte_or_a_missing_file_is_refused_by_name[model.safetensors]",
    ),
    Breakage(
        what="records of a lost future stay",
        file="training/run_files.py",
        old='    return bool(record["step"] <= state.step)\n',
        new="    return True\n",
        test="training/test_resume.py::test_records_of_a_lost_future_are_dropped",
    ),
    Breakage(
        what="the best is always the largest",
        file="training/loop.py",
        old='sign = 1 if job.task.direction == "max" else -1',
        new="sign = 1",
        test=f"{SESSION}::test_a_metric_to_minimise_is_minimised",
    ),
    Breakage(
        what="the raw weights are saved as best",
        file="training/loop.py",
        old='ema = state.ema if job.config.training.select_on == "ema" else None',
        new="ema = None",
        test=f"{SESSION}::test_ema_decides_what_is_best_and_is_what_is_saved",
    ),
    Breakage(
        what="any number counts as finite",
        file="training/guards.py",
        old="        if finite:\n",
        new="        if True:\n",
        test=f"{STEP}::test_a_step_that_is_not_finite_names_step_and_examples",
    ),
    Breakage(
        what="a hash does not see the shape",
        file="training/hashing.py",
        old="{tuple(tensor.shape)}",
        new="",
        test=f"{PARTS}::test_hashes_see_name_type_shape_and_bytes",
    ),
    Breakage(
        what="the first step skips a batch",
        file="data/sampler.py",
        old="first = (step - 1) * batch_size",
        new="first = step * batch_size",
        test="data/test_sampler.py",
    ),
    Breakage(
        what="augmentation repeats itself every epoch",
        file="data/loader.py",
        old='torch_generator(self.seed, "augment", epoch, index)',
        new='torch_generator(self.seed, "augment", index)',
        test="data/test_loader.py",
    ),
    Breakage(
        what="copies may stand in two splits",
        file="data/integrity.py",
        old="            if other != name:\n",
        new="            if False:\n",
        test="data/test_integrity.py",
    ),
    Breakage(
        what="the test split opens without a reason",
        file="data/test_lock.py",
        old="if not openings or (again and again.strip()):",
        new="if True:",
        test=f"{EVALUATE}::test_other_weights_are_refused_without_a_reason",
    ),
    Breakage(
        what="an opening is noted too late",
        file="evaluation/evaluate.py",
        old="    record_opening(path, opening)\n",
        new="",
        test=f"{EVALUATE}::test_whoever_is_killed_while_predicting_has_looked",
    ),
    Breakage(
        what="an evaluation cannot be left",
        file="evaluation/predictions.py",
        old="                poll()\n",
        new="",
        test="evaluation/test_predictions.py::test_it_polls_before_each_batch_and_may_be_left",
    ),
    Breakage(
        what="the interval is one of 90 %",
        file="evaluation/intervals.py",
        old="tail = 100 * (1 - level) / 2",
        new="tail = 100 * (1 - level)",
        test="evaluation/test_intervals.py::test_the_interval_of_a_mean_is_that_of_theory",
    ),
    Breakage(
        what="the confusion matrix is transposed",
        file="evaluation/classification.py",
        old="targets * classes + probabilities.argmax(1)",
        new="probabilities.argmax(1) * classes + targets",
        test="evaluation/test_classification.py::test_confusion_counts_true_by_predicted",
    ),
)
