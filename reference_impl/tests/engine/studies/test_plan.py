"""Which runs a study has, and when it is another study."""

from dataclasses import replace
from pathlib import Path

import pytest

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.studies.plan import Plan, Variation

PLAN = Plan(
    kind="ablate",
    preset="toy",
    changes={"training.steps": 6},
    variations=(
        Variation(name="baseline", changes={}),
        Variation(name="longer", changes={"training.steps": 9, "use_carry": False}),
    ),
    seeds=(3, 5),
)


def test_a_run_for_each_variation_and_seed_pairs_next_to_each_other() -> None:
    trials = PLAN.trials(Path("here"))
    assert [each.run_dir.name for each in trials] == [
        "baseline-seed3", "longer-seed3", "baseline-seed5", "longer-seed5",
    ]  # fmt: skip
    assert [(each.variation, each.seed) for each in trials][1] == ("longer", 3)


def test_a_variation_wins_over_what_changes_every_run() -> None:
    words = PLAN.trials(Path("here"))[3].train
    assert " ".join(words) == (
        "train --preset toy --run-dir here/longer-seed5 --resume --training.steps 9 "
        "--use_carry False --seed 5"
    )


def test_a_list_is_several_words() -> None:
    plan = replace(PLAN, changes={"model.sizes": (1, 2)})
    assert plan.trials(Path("here"))[0].train[-5:] == ("--model.sizes", "1", "2", "--seed", "3")


def test_more_variations_and_seeds_are_the_same_study() -> None:
    fewer = replace(PLAN, variations=PLAN.variations[:1], seeds=(3,))
    PLAN.check_same(fewer.as_json(), Path("here"))
    fewer.check_same(PLAN.as_json(), Path("here"))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (replace(PLAN, preset="smoke"), "another preset: it was 'smoke', now 'toy'"),
        (replace(PLAN, kind="seeds"), "another kind: it was 'seeds'"),
        (replace(PLAN, changes={}), "another changes: it was {}, now {'training.steps': 6}"),
        (
            replace(PLAN, variations=(Variation(name="longer", changes={"seed": 1}),)),
            "another variation longer: it was {'seed': 1}",
        ),
    ],
)
def test_another_study_is_refused(other: Plan, sentence: str) -> None:
    with pytest.raises(RefusedInputError, match="name another --study-dir") as refused:
        PLAN.check_same(other.as_json(), Path("here"))
    assert sentence in str(refused.value)
