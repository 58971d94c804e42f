"""Breakages of the reference model's recursion, halting, data and report."""

from .breakage import Breakage

BLOCK = "reasoner/models/test_titans_mag.py"
RECURSION = "reasoner/models/test_trm_wrapper.py"
HEAD = "reasoner/models/test_act_head.py"
MODEL = "reasoner/models/test_full_model.py"
DECODING = "reasoner/models/test_decoding.py"
GRAPHED = "reasoner/models/test_graphed_decoding.py"
SOLVING = "reasoner/models/test_graphed_solving.py"
FUSED = "reasoner/models/test_fused_block.py"
SHIPPED = "reasoner/tasks/test_shipped_weights.py"
PRESETS = "reasoner/models/test_presets.py::test_a_preset_has_exactly_as_many_parameters_as_it_says"
FAILURES = "reasoner/models/test_failures.py"
SUPERVISION = "reasoner/tasks/test_deep_supervision.py"
HALTING = "reasoner/evaluation/test_halting.py"
THRESHOLD = "reasoner/evaluation/test_halting_threshold.py"
SOLVE = "reasoner/tasks/test_solve.py"
MEMORY_USE = "reasoner/evaluation/test_memory_use.py"
RECALL = "reasoner/data/test_recall.py"
AN_EXAMPLE = "test_halted_rows_take_candidates_and_others_keep_their_data"

OF_THE_NETWORK = (
    Breakage(
        what="the gate takes memory for attention",
        file="reasoner/models/titans_mag.py",
        old="share * attended + (1 - share) * recalled",
        new="share * recalled + (1 - share) * attended",
        test=f"{BLOCK}::test_the_convex_gate_shares_out_head_by_head",
    ),
    Breakage(
        what="the memory reads the attention's output",
        file="reasoner/models/titans_mag.py",
        old="recalled = self.memory(x, prefix=prefix, documents=documents)",
        new="recalled = self.memory(attended, prefix=prefix, documents=documents)",
        test=f"{BLOCK}::test_a_block_is_its_parts[True]",
    ),
    Breakage(
        what="rows of a batch mix",
        file="reasoner/models/titans_mag.py",
        old="x = rms(x + attended)",
        new="x = rms(x + attended - 0.01 * attended.mean(0))",
        test=f"{MODEL}::test_an_item_alone_equals_it_in_a_batch[causal-kind0]",
    ),
    Breakage(
        what="every recursion builds a graph",
        file="reasoner/models/trm_wrapper.py",
        old="    with torch.no_grad():\n        for _ in range(config.recursions - 1):",
        new="    with torch.enable_grad():\n        for _ in range(config.recursions - 1):",
        test=f"{RECURSION}::test_only_the_last_recursion_builds_a_graph",
    ),
    Breakage(
        what="there is one recursion too many",
        file="reasoner/models/trm_wrapper.py",
        old="range(config.recursions - 1)",
        new="range(config.recursions)",
        test=f"{RECURSION}::test_only_the_last_recursion_builds_a_graph",
    ),
    Breakage(
        what="the answer's update sees the question",
        file="reasoner/models/trm_wrapper.py",
        old="States(net(answer + latent), latent)",
        new="States(net(question + answer + latent), latent)",
        test=f"{RECURSION}::test_values_and_gradients_are_those_of_a_loop_by_hand",
    ),
    Breakage(
        what="gradients go back through supervision steps",
        file="reasoner/models/full_model.py",
        old="States(self.answer.detach(), self.latent.detach())",
        new="States(self.answer, self.latent)",
        test=f"{MODEL}::test_gradient_goes_through_the_last_recursion_only",
    ),
    Breakage(
        what="packed documents are not kept apart",
        file="reasoner/models/full_model.py",
        old="self.backbone.recursion(prefix, documents, layout)",
        new="self.backbone.recursion(prefix, None, layout)",
        test=f"{MODEL}::test_a_packed_document_equals_the_document_alone[linear]",
    ),
    Breakage(
        what="early exit loses which state is whose",
        file="reasoner/models/full_model.py",
        old="return state[0][rows], state[1][rows], state[2][rows]",
        new="return state[0][rows], state[1][: len(rows)], state[2][: len(rows)]",
        test=f"{MODEL}::test_solving_stops_rows_on_their_own_and_equals_full_depth_there",
    ),
    Breakage(
        what="TRM's halting head has one output",
        file="reasoner/models/act_head.py",
        old="nn.Linear(width, 2)",
        new="nn.Linear(width, 1)",
        test=f"{PRESETS}[trm7m]",
    ),
    Breakage(
        what="embedding and head are never tied",
        file="reasoner/models/full_model.py",
        old="if not config.tie_embeddings:",
        new="if config.tie_embeddings in (True, False):",
        test=f"{PRESETS}[lm25m]",
    ),
    Breakage(
        what="a decoded token takes its chunks from the first position",
        file="reasoner/models/serving/decoding.py",
        old="DecodeState(tuple(caches), state.position + 1)",
        new="DecodeState(tuple(caches), state.position)",
        test=f"{DECODING}::test_prefill_and_steps_equal_the_parallel_pass[deep-4]",
    ),
    Breakage(
        what="weights are frozen by the first recorded token only",
        file="reasoner/models/serving/graphed_decoding.py",
        old="self.position % self._model.config",
        new="(self.position - self._given.position) * self._model.config",
        test=f"{GRAPHED}::test_it_equals_steps_bit_for_bit[deep-3-3]",
    ),
    Breakage(
        what="what is recorded has happened",
        file="reasoner/models/serving/graphed_decoding.py",
        old="            each.copy_(values)\n",
        new="            values.copy_(each)\n",
        test=f"{GRAPHED}::test_recording_leaves_the_state_as_it_was[deep]",
    ),
    Breakage(
        what="decoding stops at the first supervision step",
        file="reasoner/models/serving/decoding.py",
        old="range(model.config.halting.max_steps)",
        new="range(1)",
        test=f"{DECODING}::test_prefill_and_steps_equal_the_parallel_pass[linear-4]",
    ),
    Breakage(
        what="stablemax has the wrong sign below zero",
        file="reasoner/models/layers/stablemax.py",
        old="-(-below).log1p()",
        new="(-below).log1p()",
        test=f"{SUPERVISION}::test_stablemax_is_its_formula",
    ),
)
OF_HALTING = (
    Breakage(
        what="a row stops where its head is unsure",
        file="reasoner/models/act_head.py",
        old="stops = logit[: len(rows)].sigmoid() > threshold",
        new="stops = logit[: len(rows)].sigmoid() < threshold",
        test=f"{HEAD}::test_each_row_gives_its_output_of_the_step_at_which_it_was_sure",
    ),
    Breakage(
        what="outputs go to where rows stand now, not to where they came from",
        file="reasoner/models/act_head.py",
        old="done = rows[stopped]",
        new="done = stopped",
        test=f"{HEAD}::test_each_row_gives_its_output_of_the_step_at_which_it_was_sure",
    ),
    Breakage(
        what="the rows that are left come in another order than their states",
        file="reasoner/models/act_head.py",
        old="filled_up(stay, len(logit), compaction)",
        new="filled_up(stay.flip(0), len(logit), compaction)",
        test=f"{MODEL}::test_solving_stops_rows_on_their_own_and_equals_full_depth_there",
    ),
    Breakage(
        what="a number of rows that is a power of two is doubled",
        file="reasoner/models/act_head.py",
        old="(len(rows) - 1).bit_length()",
        new="len(rows).bit_length()",
        test=f"{HEAD}::test_filling_up_the_batch_changes_no_result",
    ),
    Breakage(
        what="the minimum of exploration is ignored",
        file="reasoner/models/act_head.py",
        old="(logit > 0) & (steps >= minimum)",
        new="logit > 0",
        test=f"{HEAD}::test_who_leaves_in_training",
    ),
    Breakage(
        what="training has no most steps",
        file="reasoner/models/act_head.py",
        old="return wants | (steps >= config.max_steps)",
        new="return wants",
        test=f"{SUPERVISION}::test_a_row_leaves_when_the_head_is_sure_or_its_steps_are_used_up",
    ),
    Breakage(
        what="exploration never asks for the most steps",
        file="reasoner/models/act_head.py",
        old="torch.randint(2, longest + 1,",
        new="torch.randint(2, longest,",
        test=f"{HEAD}::test_exploration_is_rare_and_asks_for_at_least_two_steps",
    ),
    Breakage(
        what="the hazard-KL takes all steps together",
        file="reasoner/models/act_head.py",
        old="here = steps == step",
        new="here = steps > 0",
        test=f"{HEAD}::test_the_hazard_kl_by_hand",
    ),
    Breakage(
        what="the hazard-KL is taken to the prior's complement",
        file="reasoner/models/act_head.py",
        old="math.log(prior)) + stay",
        new="math.log(1 - prior)) + stay",
        test=f"{HEAD}::test_the_hazard_kl_by_hand",
    ),
    Breakage(
        what="a training is deep from its first step",
        file="reasoner/models/trm_wrapper.py",
        old="return replace(self, recursions=1) if shallow else self",
        new="return self",
        test=f"{SUPERVISION}::test_the_first_steps_of_a_training_are_shallow",
    ),
    Breakage(
        what="rows that ask for nothing teach the halting head",
        file="reasoner/tasks/deep_supervision.py",
        old="halting_loss(out.halting, right, asked)",
        new="halting_loss(out.halting, right)",
        test=f"{SUPERVISION}::test_the_loss_is_a_sum_over_rows_and_the_counts_divide_it",
    ),
    Breakage(
        what="evaluations in a compiled training are compiled",
        file="engine/training/device.py",
        old='return torch.compiler.set_stance("force_eager")',
        new="return nullcontext()",
        test=f"{SUPERVISION}::test_compiled_block_by_block_it_learns_the_same",
    ),
    Breakage(
        what="the tuned threshold may cost anything",
        file="reasoner/evaluation/halting_threshold.py",
        old="most_lost=0)",
        new="most_lost=1)",
        test=f"{THRESHOLD}::test_the_threshold_is_the_next_after_the_lowest_that_loses_nothing",
    ),
    Breakage(
        what="rows that stopping saves make up for those that it loses",
        file="reasoner/models/act_head.py",
        old="lost = right[-1] & ~right_at(threshold, logits, right)",
        new="lost = right[-1].double() - right_at(threshold, logits, right).double()",
        test=f"{HEAD}::test_a_row_that_stopping_saves_makes_up_for_none_that_it_loses",
    ),
    Breakage(
        what="a recorded step goes on from the last one's states",
        file="reasoner/models/serving/graphed_solving.py",
        old="if own is not given:",
        new="if own is self.state[0]:",
        test=f"{SOLVING}::test_answers_and_steps_are_those_without_graphs[0.6-dtype0]",
    ),
    Breakage(
        what="a fused block's projections have no bias",
        file="reasoner/models/serving/fused_block.py",
        old="biases.append(bias.detach())",
        new="biases.append(0 * bias.detach())",
        test=f"{FUSED}::test_a_fused_block_gives_what_the_block_gives[convex-False]",
    ),
    Breakage(
        what="a kernel without a gradient serves in training",
        file="reasoner/models/serving/set_launch.py",
        old="on_kernels_gpu(pairs) and not torch.is_grad_enabled()",
        new="on_kernels_gpu(pairs)",
        test=f"{FUSED}::test_a_kernel_serves_on_a_gpu_without_gradients",
    ),
    Breakage(
        what="a kernel of other numbers than torch's serves",
        file="reasoner/models/memory/gpu/linear_launch.py",
        old="if fits and recurrence_agrees(q.device) else",
        new="if fits else",
        test="reasoner/models/test_kernel_check.py::test_sums_are_kernels_only_where_each_agrees",
    ),
    Breakage(
        what="each batch of puzzles is recorded anew",
        file="reasoner/tasks/solving.py",
        old="if self._graphed is None:",
        new="if self._graphed is None or len(tokens):",
        test=f"{SHIPPED}::test_what_ships_is_whole_small_and_solves_puzzles",
    ),
    Breakage(
        what="a copy for a graph works with the original's weights",
        file="engine/training/device.py",
        old="functools.partial(_recomputed, block)",
        new="lambda *args: _recomputed(block, *args)",
        test="reasoner/tasks/test_workloads.py::test_a_copy_works_with_its_own_weights",
    ),
    Breakage(
        what="the halting logit has no gradient",
        file="reasoner/tasks/deep_supervision.py",
        old="halting_loss(out.halting,",
        new="halting_loss(out.halting.detach(),",
        test=f"{FAILURES}::test_our_halting_head_can_learn[0.0]",
    ),
    Breakage(
        what="a fresh row goes on from the states of the one before",
        file="reasoner/tasks/deep_supervision.py",
        old='fresh = carry["halted"]\n        answer',
        new='fresh = torch.zeros_like(carry["halted"])\n        answer',
        test=f"{SUPERVISION}::{AN_EXAMPLE}",
    ),
    Breakage(
        what="a fresh row keeps the steps of the one before",
        file="reasoner/tasks/deep_supervision.py",
        old='"steps": torch.where(fresh, self._first_steps(carry), carry["steps"])',
        new='"steps": carry["steps"]',
        test=f"{SUPERVISION}::{AN_EXAMPLE}",
    ),
    Breakage(
        what="the rows of the first batch leave together",
        file="reasoner/tasks/deep_supervision.py",
        old='        if int(carry["updates"][0]):\n',
        new="        if carry:\n",
        test=f"{SUPERVISION}::test_rows_of_the_first_batch_do_not_leave_together",
    ),
    Breakage(
        what="a halted row keeps its data",
        file="reasoner/tasks/deep_supervision.py",
        old='torch.where(_as(fresh, value), value, carry[f"data.{name}"])',
        new='carry[f"data.{name}"]',
        test=f"{SUPERVISION}::{AN_EXAMPLE}",
    ),
    Breakage(
        what="a row's minimum is drawn anew at each step",
        file="reasoner/tasks/deep_supervision.py",
        old='torch.where(fresh, minimum.to(fresh.device), carry["minimum"])',
        new="minimum.to(fresh.device)",
        test=f"{FAILURES}::test_what_is_carried_has_no_graph_and_keeps_its_minimum",
    ),
    Breakage(
        what="exploration draws the same at each update",
        file="reasoner/tasks/deep_supervision.py",
        old='"exploration", int(carry["updates"][0])',
        new='"exploration", 0',
        test=f"{SUPERVISION}::test_exploration_does_not_depend_on_how_a_batch_is_split",
    ),
    Breakage(
        what="exploration is drawn from the global generator",
        file="reasoner/tasks/deep_supervision.py",
        old='torch_generator(self.config.seed, "exploration", int(carry["updates"][0]))',
        new="torch.default_generator",
        test=f"{SUPERVISION}::test_exploration_does_not_depend_on_how_a_batch_is_split",
    ),
    Breakage(
        what="a resumed run begins all its rows anew",
        file="engine/training/state.py",
        old='    "carry": _restore_carry,\n',
        new="",
        test=f"{SUPERVISION}::test_killed_and_resumed_it_ends_with_the_same_hashes[1-6]",
    ),
    Breakage(
        what="what is carried keeps its graph",
        file="reasoner/tasks/deep_supervision.py",
        old="out.answer.detach().float()",
        new="out.answer.float()",
        test=f"{FAILURES}::test_what_is_carried_has_no_graph_and_keeps_its_minimum",
    ),
    Breakage(
        what="supervision steps are not counted",
        file="reasoner/tasks/deep_supervision.py",
        old='carry["steps"] + 1',
        new='carry["steps"]',
        test=f"{SUPERVISION}::{AN_EXAMPLE}",
    ),
    Breakage(
        what="rows that ask for nothing count",
        file="reasoner/tasks/deep_supervision.py",
        old='int((batch["labels"] != IGNORED).any(1).sum())',
        new='len(batch["labels"])',
        test=f"{SUPERVISION}::test_the_loss_is_a_sum_over_rows_and_the_counts_divide_it",
    ),
    Breakage(
        what="evaluation explores",
        file="reasoner/tasks/course.py",
        old="    sure[-1] = True\n",
        new="    sure &= torch.rand(sure.shape) > 0.5\n    sure[-1] = True\n",
        test=f"{SUPERVISION}::test_a_prediction_stops_where_the_head_is_sure_first",
    ),
    Breakage(
        what="whatever the network writes is a solution",
        file="reasoner/tasks/solving.py",
        old="solved = task.is_solution(puzzle, answer)",
        new="solved = True",
        test=f"{SOLVE}::test_random_weights_solve_nothing[6x6]",
    ),
    Breakage(
        what="a solution may change given digits",
        file="reasoner/tasks/sudoku.py",
        old="rules.is_solution(grid) and rules.keeps_givens(given, grid)",
        new="rules.is_solution(grid)",
        test=f"{SOLVE}::test_what_the_network_writes_is_judged_by_the_rules",
    ),
    Breakage(
        what="weights of another model are taken",
        file="reasoner/commands/solve_weights.py",
        old="if trained != here:",
        new="if trained is None:",
        test=f"{SOLVE}::test_weights_of_another_model_configuration_are_refused",
    ),
    Breakage(
        what="the test split tells for nothing what more steps give",
        file="engine/data/test_lock.py",
        old=' and o.get("steps") == steps',
        new="",
        test="reasoner/tasks/test_sudoku.py::test_more_steps_on_the_test_split_are_another_opening",
    ),
    Breakage(
        what="a puzzle that is timed at full depth may stop early",
        file="reasoner/tasks/workloads.py",
        old="NEVER_SURE = 1.0",
        new="NEVER_SURE = 0.0",
        test="reasoner/tasks/test_workloads.py::"
        "test_a_puzzle_takes_all_its_steps_or_four_whatever_the_head_says[50.0]",
    ),
    Breakage(
        what="items that nothing solves spread the steps",
        file="reasoner/evaluation/halting.py",
        old="float(steps[solved].std())",
        new="float(steps.std())",
        test=f"{HALTING}::test_a_constant_head_is_not_accepted[solved-7]",
    ),
    Breakage(
        what="a constant number of steps follows need",
        file="reasoner/evaluation/halting.py",
        old="if scale > 0 else 0.0",
        new="if scale > 0 else 1.0",
        test=f"{HALTING}::test_a_constant_head_is_not_accepted[all-7]",
    ),
)
OF_RECALL = (
    Breakage(
        what="an answer is that of another key",
        file="reasoner/data/recall.py",
        old="return torch.cat([pairs, fillers, keys[order]]), values[order]",
        new="return torch.cat([pairs, fillers, keys[order]]), values",
        test=f"{RECALL}::test_an_example_is_laid_out_as_documented",
    ),
    Breakage(
        what="the last key and value are never drawn",
        file="reasoner/data/recall.py",
        old="torch.randint(first, first + kinds,",
        new="torch.randint(first, first + kinds - 1,",
        test=f"{RECALL}::test_values_and_keys_are_uniform_and_independent[pairs]",
    ),
    Breakage(
        what="splits draw the same examples",
        file="reasoner/data/recall.py",
        old='"recall", self.split, index',
        new='"recall", index',
        test=f"{RECALL}::test_the_splits_share_no_sequence_and_no_id[pairs]",
    ),
    Breakage(
        what="every epoch draws the same examples",
        file="reasoner/data/recall.py",
        old="        if generator is None:\n",
        new="        if generator is not self:\n",
        test=f"{RECALL}::test_every_training_step_is_fresh",
    ),
)
OF_THE_REPORT = (
    Breakage(
        what="a token's surprise is that of weights from before its chunk",
        file="reasoner/models/memory/surprise.py",
        old="state = found_by(place, state, chunk=memory.config.chunk)",
        new="state = found_by(1, state, chunk=2)",
        test=f"{MEMORY_USE}::test_gate_and_surprise_are_those_of_a_loop[causal deep]",
    ),
    Breakage(
        what="the surprise of a set is that before its write, twice",
        file="reasoner/models/memory/surprise.py",
        old="for state in (memory.initial_state(batch), cache.state)",
        new="for state in (memory.initial_state(batch), memory.initial_state(batch))",
        test=f"{MEMORY_USE}::test_gate_and_surprise_are_those_of_a_loop[set deep]",
    ),
    Breakage(
        what="persistent tokens count in the gate's share",
        file="reasoner/evaluation/memory_use.py",
        old="gate.share(x)[:, prefix:]",
        new="gate.share(x)",
        test=f"{MEMORY_USE}::test_gate_and_surprise_are_those_of_a_loop[causal linear]",
    ),
    Breakage(
        what="minimal puzzles count among those with as many empty cells, too",
        file="reasoner/evaluation/difficulty.py",
        old="(values <= part[-1]) & ~apart",
        new="(values <= part[-1])",
        test="reasoner/evaluation/test_difficulty.py::test_minimal_items_are_in_a_group_of_their_own_only",
    ),
    Breakage(
        what="a digit that contradicts the solution is not marked",
        file="reasoner/evaluation/sudoku_steps.py",
        old="return digit not in (0, self.solution[cell])",
        new="return digit < 0",
        test="reasoner/evaluation/test_steps.py::"
        "test_digits_say_whose_they_are_and_wrong_ones_stand_in_filled_cells",
    ),
)
BREAKAGES = (*OF_THE_NETWORK, *OF_HALTING, *OF_RECALL, *OF_THE_REPORT)
