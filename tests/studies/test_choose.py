"""Choice on validation, confirmation on fresh seeds, and comparable tuning."""

import yaml

from intel_scenes import record
from intel_scenes.record import Confirmation, ConfirmedArm, StudyPlan, write_study
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.sentences import notes, problems
from intel_scenes.studies.render.tables import leaderboard
from tests.studies.simulated_records import leave


def plan(folder, **keys):
    (folder / record.STUDY).write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"], **keys}))


def leave_tuning(
    study, best, *, scales=(0.1, 1, 10), seeds=(1, 2), optims=("sgd", "adam"), key="lr_scale", best_val=0.9
):
    """Write tuning runs of optimizers, each with one best value on validation."""
    for optim in optims:
        for scale in scales:
            for seed in seeds:
                val = best_val if scale == best[optim] else 0.7
                leave(study, optim, seed, 0.8, typed={key: scale}, val_accuracy=val)


def leave_confirming(study, optim, scale, seeds, share, **more):
    folders = [leave(study, optim, seed, share, typed={"lr_scale": scale}, **more) for seed in seeds]
    names = tuple(folder.name for folder in folders)
    texts = tuple(map(str, seeds))
    return ConfirmedArm(optim, (f"optim={optim}", f"lr_scale={scale}"), ("1", "2"), texts, names)


def confirm(study, *arms):
    write_study(study, StudyPlan(compared=("optim",), tuned=("lr_scale",), confirmed=(Confirmation(None, None, arms),)))


def test_verdicts_use_only_the_fresh_seeds(tmp_path):
    leave_tuning(tmp_path, {"sgd": 1, "adam": 1})
    seeds = (101, 102, 103)
    confirm(
        tmp_path,
        leave_confirming(tmp_path, "sgd", 1, seeds, 0.95, val_accuracy=0.1),
        leave_confirming(tmp_path, "adam", 1, seeds, 0.6, val_accuracy=0.99),
    )
    comparison = compare(tmp_path)
    (pair,) = comparison.pairs
    assert (pair.a, pair.b, pair.num_seeds) == ("adam", "sgd", (3, 3))
    assert abs(pair.difference + 0.35) < 0.01
    assert pair.text == "worse"
    assert [arm.chosen.val_accuracy for arm in comparison.arms] == [0.9, 0.9], "fresh seeds take no part in the choice"
    names, first, *_ = leaderboard(comparison)
    row = dict(zip(names, first, strict=True))
    assert (row["seeds"], row["test %"]) == ("2 + 3 fresh", "60.0")
    assert "on 3 fresh seeds" in " ".join(answer(comparison))
    assert not any("tuned on the seeds that are tested" in line for line in problems(comparison.notices))


def test_the_family_of_tests_is_the_confirmed_arms(tmp_path):
    leave_tuning(tmp_path, {"sgd": 1, "adam": 1, "nadam": 1}, optims=("sgd", "adam", "nadam"))
    arms = [leave_confirming(tmp_path, optim, 1, (101, 102), 0.9) for optim in ("sgd", "adam")]
    confirm(tmp_path, *arms)
    comparison = compare(tmp_path)
    assert [{pair.a, pair.b} for pair in comparison.pairs] == [{"sgd", "adam"}]
    names, *rows = leaderboard(comparison)
    column = names.index("against the leader")
    assert "not confirmed" in {row[column] for row in rows if row[0] == "nadam"}


def test_a_confirmed_choice_stands(tmp_path):
    leave_tuning(tmp_path, {"sgd": 1, "adam": 0.1})
    arms = [leave_confirming(tmp_path, optim, 1, (101, 102), 0.9) for optim in ("sgd", "adam")]
    confirm(tmp_path, *arms)
    comparison = compare(tmp_path)
    assert {arm.label: arm.chosen.values["lr_scale"] for arm in comparison.arms} == {"sgd": "1", "adam": "1"}
    (said,) = [line for line in problems(comparison.notices) if "was confirmed and is compared" in line]
    assert said.startswith("adam: optim=adam, lr_scale=1 was confirmed")
    assert said.endswith("would now choose optim=adam, lr_scale=0.1")
    assert [pair.text for pair in comparison.pairs] == ["not tuned"], "adam is no longer at its best rate"


def test_without_confirmation_a_notice_says_that_tuned_arms_are_tested_on_the_tuning_seeds(tmp_path):
    plan(tmp_path)
    leave_tuning(tmp_path, {"sgd": 1, "adam": 1})
    comparison = compare(tmp_path)
    assert any(
        line.startswith("the seeds that are tested also chose lr_scale") for line in problems(comparison.notices)
    )
    (said,) = [line for line in notes(comparison.notices) if line.startswith("exploratory, without verdicts")]
    assert said.endswith("adam 80.0 %, sgd 80.0 %")


def test_the_cross_fitted_accuracy_is_that_of_the_seed_left_out_of_the_choice(tmp_path):
    plan(tmp_path)
    tests = {("sgd", 1, 1): 0.6, ("sgd", 1, 2): 0.7, ("sgd", 10, 1): 0.8, ("sgd", 10, 2): 0.9}
    for (optim, scale, seed), share in tests.items():
        val = 0.9 if (scale == 1) == (seed == 1) else 0.5  # seed 1 prefers 1, seed 2 prefers 10
        leave(tmp_path, optim, seed, share, typed={"lr_scale": scale}, val_accuracy=val)
        leave(tmp_path, "adam", seed, 0.5, typed={"lr_scale": scale}, val_accuracy=0.4)
    (said,) = [line for line in notes(compare(tmp_path).notices) if line.startswith("exploratory")]
    assert "sgd 75.0 %" in said, "0.8 at seed 1, chosen by seed 2, and 0.7 at seed 2, chosen by seed 1"


def test_the_better_of_two_values_is_not_bracketed_but_at_no_edge(tmp_path):
    plan(tmp_path)
    leave_tuning(tmp_path, {"sgd": 1, "adam": 10}, scales=(1, 10))
    comparison = compare(tmp_path)
    assert not any(arm.is_unequal for arm in comparison.arms)
    said = "sgd: of two values the best is always at the edge of the grid; add a third on the far side of lr_scale=1"
    assert said in notes(comparison.notices)


def test_a_value_at_a_natural_bound_is_not_at_an_edge(tmp_path):
    plan(tmp_path, tuned=["optim.weight_decay"])
    leave_tuning(tmp_path, {"sgd": 0, "adam": 0.01}, scales=(0, 0.001, 0.01), key="optim.weight_decay")
    comparison = compare(tmp_path, bounds={"optim.weight_decay": [0]})
    assert {arm.label: arm.is_unequal for arm in comparison.arms} == {"sgd": False, "adam": True}


def test_failed_confirming_runs_give_a_notice_and_no_tuning_run_is_reported_lost(tmp_path):
    leave_tuning(tmp_path, {"sgd": 1, "adam": 1})
    failed = {"status": "failed", "error": "e", "config_digest": None}
    arms = [
        leave_confirming(tmp_path, "sgd", 1, (101, 102), 0.9),
        leave_confirming(tmp_path, "adam", 1, (101, 102), 0.9, **failed),
    ]
    confirm(tmp_path, *arms)
    lines = problems(compare(tmp_path).notices)
    assert any(line.startswith("adam: 2 of 2 confirming runs failed: ") for line in lines)
    assert not any("no run of" in line for line in lines)


def test_an_unconfirmed_leader_is_not_the_reference(tmp_path):
    leave_tuning(tmp_path, {"sgd": 1, "adam": 1})
    leave_tuning(tmp_path, {"nadam": 1}, optims=("nadam",), best_val=0.99)
    arms = [
        leave_confirming(tmp_path, optim, 1, (101, 102, 103), share) for optim, share in (("sgd", 0.6), ("adam", 0.95))
    ]
    confirm(tmp_path, *arms)
    comparison = compare(tmp_path)
    assert (comparison.arms[0].label, comparison.reference) == ("nadam", "adam")
    said = "nadam was not confirmed, so nothing is compared with it: sweep.confirm=N confirms it"
    assert said in problems(comparison.notices)
    assert any(line.startswith("Significantly worse than adam: sgd (-") for line in answer(comparison))


def test_a_choice_is_identified_by_its_digest_not_by_its_overrides(tmp_path):
    plan(tmp_path)
    for optim in ("sgd", "adam"):
        for seed in (1, 2):
            typed = {"lr_scale": 1} if seed == 2 or optim == "adam" else {}
            leave(tmp_path, optim, seed, 0.8, typed=typed, val_accuracy=0.9, configuration_digest=f"{optim} 1")
            leave(tmp_path, optim, seed, 0.7, typed={"lr_scale": 10}, val_accuracy=0.5)
            leave(tmp_path, optim, seed, 0.7, typed={"lr_scale": 0.1}, val_accuracy=0.5)
    digests = {"configuration_digest": "sgd 1"}, {"configuration_digest": "adam 1"}
    arms = [
        leave_confirming(tmp_path, "sgd", 1, (101, 102), 0.9, **digests[0]),
        leave_confirming(tmp_path, "adam", 1, (101, 102), 0.9, **digests[1]),
    ]
    confirm(tmp_path, *arms)
    comparison = compare(tmp_path)
    assert not any("was confirmed and is compared" in line for line in problems(comparison.notices))
    assert [len(arm.tested.runs) for arm in comparison.arms] == [2, 2]


def test_single_runs_are_compared_only_where_both_are_confirming(tmp_path):
    leave_tuning(tmp_path, {"sgd": 1, "adam": 1, "nadam": 1}, optims=("sgd", "adam", "nadam"), seeds=(1,))
    confirm(tmp_path, *(leave_confirming(tmp_path, optim, 1, (101,), 0.9) for optim in ("sgd", "adam")))
    assert [{one.a, one.b} for one in compare(tmp_path).single_runs] == [{"sgd", "adam"}]
