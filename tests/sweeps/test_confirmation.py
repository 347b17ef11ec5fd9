import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import yaml
from filelock import FileLock

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.record import Confirmation, StudyPlan, read_study, write_study
from intel_scenes.sweeps import confirmation
from intel_scenes.sweeps.names import run_name
from tests.studies.simulated_records import leave_run, right

# Validation accuracies of two optimizers at two rates; on test the rates that validation does not choose are better.
VALID = {("sgd", "1"): 0.6, ("sgd", "3"): 0.5, ("adam", "1"): 0.7, ("adam", "3"): 0.8}
TEST = {("sgd", "1"): 0.5, ("sgd", "3"): 0.9, ("adam", "1"): 0.9, ("adam", "3"): 0.5}


def leave(study, optim, lr_scale, seed, valid, test=0.5):
    typed = {"optim": optim, "lr_scale": lr_scale, "seed": seed}
    name = run_name([f"{key}={value}" for key, value in typed.items()])
    images = right(test, seed=sum(f"{optim}{lr_scale}".encode()) + seed)
    leave_run(study, name, {"data.root": "/images", **typed}, images, val_accuracy=valid)
    return name


def jobs(*optimizers, rates=("1", "3")):
    all_ = [["data.root=/here", f"optim={optim}", f"lr_scale={lr}"] for optim in optimizers for lr in rates]
    return {run_name([*job, "seed=1"]): job for job in all_}


def asked(study, num_seeds=2, num_arms=None, optimizers=("sgd", "adam")):
    return confirmation.Asked(study, num_seeds, num_arms, jobs(*optimizers), frozenset(["lr_scale"]))


def overrides_of(plan):
    return {arm.label: arm.overrides for arm in plan.confirmed_arms}


@pytest.fixture
def study(tmp_path):
    """A study that is tuned by seeds 1 and 2, and not confirmed yet."""
    names = [
        leave(tmp_path, optim, lr, seed, valid, TEST[optim, lr])
        for (optim, lr), valid in VALID.items()
        for seed in (1, 2)
    ]
    write_study(tmp_path, StudyPlan(compared=("optim",), tuned=("lr_scale",), planned=tuple(names)))
    return tmp_path


CHOSEN = {"sgd": ("optim=sgd", "lr_scale=1"), "adam": ("optim=adam", "lr_scale=3")}


def test_each_arm_is_confirmed_as_validation_chose_it_on_seeds_that_no_run_has(study):
    plan = confirmation.decide(asked(study))
    assert plan == read_study(study)
    assert overrides_of(plan) == CHOSEN, "test accuracy and what changes no result play no part"
    assert [arm.label for arm in plan.confirmed_arms] == ["adam", "sgd"], "the best on validation first"
    for arm in plan.confirmed_arms:
        assert (arm.chosen_by, arm.seeds) == (("1", "2"), ("101", "102"))
        assert arm.runs == tuple(run_name([*arm.overrides, f"seed={seed}"]) for seed in arm.seeds)
    assert plan.all_planned == (*plan.planned, *plan.confirming_runs)
    assert plan.tuning_runs == plan.planned


def test_confirming_runs_go_seed_by_seed_with_the_neutral_keys_of_the_sweep(study):
    found = confirmation.confirming_jobs(asked(study), confirmation.decide(asked(study)))
    assert found == [
        [*CHOSEN[optim], f"seed={seed}", "data.root=/here"] for seed in (101, 102) for optim in ("adam", "sgd")
    ]


def test_confirming_runs_and_later_tuning_runs_change_no_choice(study):
    before = confirmation.chosen_arms(study, read_study(study))
    first = confirmation.decide(asked(study))
    for seed in (101, 102):
        leave(study, "adam", "3", seed, valid=0.1)
        leave(study, "sgd", "1", seed, valid=0.9)
    assert confirmation.chosen_arms(study, first) == before, "runs that confirm do not choose"
    for seed in (1, 2):
        leave(study, "sgd", "10", seed, valid=0.95)
    assert confirmation.decide(asked(study)) == first == read_study(study)
    assert confirmation.chosen_otherwise(asked(study), first) == ["sgd"]


def test_a_decision_is_read_without_a_new_choice(study, monkeypatch):
    first = confirmation.decide(asked(study))
    monkeypatch.setattr(confirmation, "chosen_arms", lambda *_: pytest.fail("it is decided"))
    assert confirmation.decide(asked(study)) == first
    assert confirmation.decide(asked(study, num_seeds=1)) == first, "what is planned is gone on with"
    assert confirmation.decide(asked(study, num_arms=1)) == first


def test_a_raised_number_adds_seeds_to_the_same_choice(study):
    first = confirmation.decide(asked(study))
    for seed in (1, 2):
        leave(study, "sgd", "10", seed, valid=0.95)
    plan = confirmation.decide(asked(study, num_seeds=4))
    assert plan.confirmed[0] == first.confirmed[0]
    assert [(arm.label, arm.seeds) for arm in plan.confirmed[1].arms] == [
        ("adam", ("103", "104")),
        ("sgd", ("103", "104")),
    ]
    assert overrides_of(plan) == CHOSEN
    assert {arm.seeds for arm in plan.confirmed_arms} == {("101", "102", "103", "104")}


def test_only_the_best_arms_are_confirmed_on_request(study):
    plan = confirmation.decide(asked(study, num_arms=1))
    assert overrides_of(plan) == {"adam": CHOSEN["adam"]}
    for seed in (1, 2):
        leave(study, "nadam", "1", seed, valid=0.95)
    assert confirmation.decide(asked(study, num_arms=1)) == plan, "a leader that came later does not replace it"
    both = confirmation.decide(asked(study, num_arms=2, optimizers=("sgd", "adam", "nadam")))
    assert [arm.label for arm in both.confirmed_arms] == ["adam", "nadam"]


def test_an_arm_added_later_is_confirmed_on_the_same_seeds(study):
    first = confirmation.decide(asked(study))
    for seed in (1, 2):
        leave(study, "nadam", "1", seed, valid=0.4)
    plan = confirmation.decide(asked(study, optimizers=("sgd", "adam", "nadam")))
    assert plan.confirmed[0] == first.confirmed[0]
    assert [(arm.label, arm.seeds) for arm in plan.confirmed[1].arms] == [("nadam", ("101", "102"))]


def test_a_sweep_confirms_its_own_arms_and_leaves_those_of_others_to_their_command(study):
    sgd, adam = asked(study, optimizers=("sgd",)), asked(study, num_seeds=3, optimizers=("adam",))
    assert sgd.size(read_study(study)) == (1, 2)
    first = confirmation.decide(sgd)
    assert overrides_of(first) == {"sgd": CHOSEN["sgd"]}
    assert len(confirmation.confirming_jobs(sgd, first)) == 2
    assert (adam.size(first), adam.is_decided(first), confirmation.confirming_jobs(adam, first)) == ((1, 3), False, [])
    plan = confirmation.decide(adam)
    assert {arm.label: arm.seeds for arm in plan.confirmed_arms} == {
        "sgd": ("101", "102"),
        "adam": ("101", "102", "103"),
    }, "seeds are added to the sweep's own arms alone, which share those of the others, so that they are paired"
    assert sgd.is_decided(plan)
    assert confirmation.decide(asked(study, num_seeds=3)).confirmed_arms[0].seeds == ("101", "102", "103")


def test_the_best_arms_are_those_of_the_sweep(study):
    confirmation.decide(asked(study, optimizers=("adam",)))
    for seed in (1, 2):
        leave(study, "nadam", "1", seed, valid=0.9)
    two = asked(study, num_arms=1, optimizers=("sgd", "adam"))
    assert (two.size(read_study(study)), two.is_decided(read_study(study))) == ((1, 2), True), "adam is one of them"
    other = asked(study, num_arms=1, optimizers=("sgd", "nadam"))
    assert other.size(read_study(study)) == (1, 2)
    assert [arm.label for arm in confirmation.decide(other).confirmed[1].arms] == ["nadam"]


def test_a_run_that_is_the_twin_of_another_is_confirmed_as_that_one(study):
    """With `epochs=10` typed where that is the default, the runs are those that are there already."""
    named = {f"{name}x": [*job, "epochs=10"] for name, job in jobs("sgd").items()}
    twins = {f"{name}x": run_name([*job[1:], "seed=1"]) for name, job in jobs("sgd").items()}
    write_study(study, replace(read_study(study), twins=twins))
    wanted = replace(asked(study), named=named)
    assert overrides_of(confirmation.decide(wanted)) == {"sgd": CHOSEN["sgd"]}
    assert wanted.is_decided(read_study(study))


def test_an_arm_whose_label_has_changed_since_is_not_confirmed_twice(study):
    confirmation.decide(asked(study))
    for seed in (1, 2):
        typed = {"model": "resnet50", "optim": "sgd", "lr_scale": "1", "seed": seed}
        name = run_name([f"{key}={value}" for key, value in typed.items()])
        leave_run(study, name, typed, right(0.5, seed=70 + seed), model="resnet50")
    write_study(study, replace(read_study(study), compared=("model", "optim")))
    chosen = [arm.label for arm in confirmation.chosen_arms(study, read_study(study))]
    assert chosen[:2] == ["resnet18/adam", "resnet18/sgd"]
    more = replace(asked(study), named=asked(study).named | {"other": ["model=resnet50", "optim=sgd", "lr_scale=1"]})
    plan = confirmation.decide(more)
    assert [arm.label for arm in plan.confirmed[1].arms] == ["resnet50/sgd"]


def test_seeds_of_planned_or_existing_runs_are_not_fresh(study):
    plan = read_study(study)
    write_study(study, replace(plan, planned=(*plan.planned, "optim=sgd,lr_scale=9,seed=102-abc")))
    leave(study, "sgd", "3", 101, valid=0.1)
    assert {arm.seeds for arm in confirmation.decide(asked(study)).confirmed_arms} == {("103", "104")}


def test_a_process_that_waits_for_another_takes_what_that_one_chose(study):
    arms = confirmation.decide(asked(study)).confirmed_arms
    write_study(study, replace(read_study(study), confirmed=()))
    with ThreadPoolExecutor(1) as pool:
        with FileLock(study / record.STUDY_LOCK):
            waiting = pool.submit(confirmation.decide, asked(study))
            time.sleep(0.3)  # by then it has seen that nothing is decided
            others = tuple(replace(arm, overrides=(arm.overrides[0], "lr_scale=9")) for arm in arms)
            write_study(study, replace(read_study(study), confirmed=(Confirmation(arms=others),)))
        assert waiting.result(timeout=60).confirmed_arms == others
    assert read_study(study).confirmed_arms == others


def test_without_anything_tuned_every_arm_runs_on_fresh_seeds(tmp_path):
    for optim in ("sgd", "adam"):
        leave(tmp_path, optim, "1", 1, valid=0.5)
    named = jobs("sgd", "adam", rates=("1",))
    plan = confirmation.decide(confirmation.Asked(tmp_path, 1, None, named, frozenset()))
    assert {arm.overrides for arm in plan.confirmed_arms} == {
        ("optim=sgd", "lr_scale=1"),
        ("optim=adam", "lr_scale=1"),
    }


def test_the_choice_of_a_study_stays_with_what_it_confirms(study):
    """`study=NAME` sets keys of a run that nobody typed."""
    for path in study.glob(f"*/{record.OVERRIDES}"):
        path.write_text(yaml.safe_dump([*yaml.safe_load(path.read_text()), "study=optimizers", "sweep.name=s"]))
    plan = confirmation.decide(asked(study))
    assert overrides_of(plan)["sgd"] == ("optim=sgd", "lr_scale=1", "study=optimizers")


def test_a_chosen_run_without_its_overrides_is_named(study):
    (study / run_name(["optim=adam", "lr_scale=3", "seed=1"]) / record.OVERRIDES).write_text("- '=,='\n")
    with pytest.raises(UserError, match=r"was chosen, but its overrides\.yaml cannot be read"):
        confirmation.decide(asked(study))
    assert not read_study(study).confirmed


def test_tuning_runs_are_open_until_they_are_complete_or_failed(study):
    plan = read_study(study)
    plan = replace(plan, planned=(*plan.planned, "a", "b", "c", "d"), twins={"d": plan.planned[0]})
    leave_run(study, "a", {"seed": 1}, right(0.5), status="failed")
    leave_run(study, "b", {"seed": 1}, right(0.5), status="interrupted")
    assert confirmation.open_runs(study, plan, done=()) == ["b", "c"]
    assert confirmation.open_runs(study, plan, done=("c",)) == ["b"]


def test_a_planned_run_that_was_given_up_is_named_with_a_way_out(study):
    own = next(iter(asked(study).named))
    one, two = confirmation.waits_for([own, "lr_scale=100"], asked(study))
    assert one == f"nothing is confirmed yet: {own} is not completed; start the same command again to resume"
    assert two == (
        f"nothing is confirmed yet: lr_scale=100, planned by another sweep of {study}, is not completed: run it, or "
        "remove it from planned (or added) in study.yaml"
    )
    (several,) = confirmation.waits_for(["a", "b"], asked(study))
    assert "a, b, planned by another sweep of" in several
    assert "run them, or remove them from planned" in several
    assert confirmation.waits_for([], asked(study)) == []


def test_a_confirming_seed_cannot_be_used_for_tuning(study):
    plan = confirmation.decide(asked(study))
    confirmation.refuse_confirming_seeds([["optim=sgd", "seed=3"]], plan)
    with pytest.raises(UserError, match="seed=102 is a confirming seed"):
        confirmation.refuse_confirming_seeds([["optim=sgd", "seed=102"]], plan)


@pytest.mark.parametrize(
    ("num_seeds", "num_arms", "before", "after"),
    [(5, None, (2, 5), (2, 5)), (5, 1, (1, 5), (1, 5)), (5, 7, (2, 5), (2, 5)), (1, None, (2, 1), (2, 2))],
)
def test_the_size_of_a_confirmation_is_known_before_its_configurations(study, num_seeds, num_arms, before, after):
    wanted = asked(study, num_seeds, num_arms)
    assert wanted.size(read_study(study)) == before
    held = confirmation.proposed(asked(study, 2, num_arms), read_study(study))
    assert wanted.size(held) == after
