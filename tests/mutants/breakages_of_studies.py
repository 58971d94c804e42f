"""Breakages of what `study` trains and compares."""

from .breakage import Breakage

COMPARISON = "engine/studies/test_comparison.py"
JOBS = "engine/studies/test_jobs.py"
STUDY = "engine/studies/test_study.py"

BREAKAGES = (
    Breakage(
        what="seeds are not paired: another draw of examples for each run",
        file="engine/studies/comparison.py",
        old='"study", "examples", len(rows), draw)',
        new='"study", "examples", len(rows), draw, str(rows[0].output))',
        test=f"{COMPARISON}::test_pairs_cancel_what_is_hard_for_both",
    ),
    Breakage(
        what="many comparisons are held to the level of one",
        file="engine/studies/comparison.py",
        old="level = 1 - (1 - LEVEL) / max(1, len(scored) - 1)",
        new="level = LEVEL",
        test=f"{COMPARISON}::test_more_comparisons_widen_each_interval",
    ),
    Breakage(
        what="seeds are not drawn",
        file="engine/studies/comparison.py",
        old="means = np.take_along_axis(table, chosen, axis=0).mean(0)",
        new="means = table.mean(0)",
        test=f"{COMPARISON}::test_a_plain_twin_gives_the_same_interval",
    ),
    Breakage(
        what="other examples are compared",
        file="engine/studies/comparison.py",
        old="if seed in baseline and side[seed].ids == baseline[seed].ids]",
        new="if seed in baseline]",
        test=f"{COMPARISON}::test_only_the_seeds_and_examples_of_both_are_compared",
    ),
    Breakage(
        what="a run that another process trains is begun a second time",
        file="engine/studies/jobs.py",
        old="if not is_in_use(job.run_dir):",
        new="if True:",
        test=f"{JOBS}::test_a_run_in_use_is_waited_for",
    ),
    Breakage(
        what="a failed job goes on with its next command",
        file="engine/studies/jobs.py",
        old="if code == 0 and self.current < len(self.job.commands):",
        new="if self.current < len(self.job.commands):",
        test=f"{JOBS}::test_a_failure_is_told_and_the_others_go_on",
    ),
    Breakage(
        what="the test split is opened without a word for each seed",
        file="engine/studies/study.py",
        old='words += [] if reason is None else ["--again", reason]',
        new='words += ["--again", reason or "none"]',
        test=f"{STUDY}::test_the_test_split_is_opened_once_for_all_seeds",
    ),
)
