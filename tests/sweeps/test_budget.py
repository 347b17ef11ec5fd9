import functools
from dataclasses import replace
from types import SimpleNamespace

import hydra
import pytest
import yaml

from intel_scenes import record
from intel_scenes.composition import configured
from intel_scenes.config import RunConfig, StudyConfig, SweepConfig
from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder
from intel_scenes.record import StudyBudget, StudyPlan, read_study, write_study
from intel_scenes.sweeps import budget, plan
from intel_scenes.sweeps.budget import FIXED_SECONDS, MARGIN, Planned, Request, Terms, fit, smallest, sweep_seconds
from intel_scenes.training import run_cost
from intel_scenes.training.run_cost import RunCost
from tests.process import forked
from tests.small import DRAWN, SMALL, asked

COST = RunCost(start=2.0, epochs=(1.0,))
RATES = ("1", "0.3", "3", "0.1", "10")


def grid(rates=RATES, seeds=("1", "2"), costs=None):
    """Two optimizers at some rates and seeds."""
    return [
        Planned({"optim": optim, "lr_scale": rate, "seed": seed}, (optim,), (costs or {}).get(optim, COST))
        for optim in ("sgd", "adam")
        for rate in rates
        for seed in seeds
    ]


TERMS = Terms(cut=["lr_scale"], tuned={"lr_scale"}, confirm=5)


@pytest.mark.parametrize(
    ("limit", "epochs", "num_cut", "confirm", "seconds"),
    [
        # 20 runs that choose and 10 that confirm take 30 x (2 + epochs) seconds.
        (300, 8, 0, 5, 300),
        (299, 7, 0, 5, 270),
        (90, 1, 0, 5, 90),
        (89, 1, 1, 5, 78),  # 16 + 10 runs, a rate less
        (77, 1, 2, 5, 66),  # 12 + 10
        (65, 1, 2, 4, 60),  # three rates stay, so that the best can have a neighbour on each side
        (59, 1, 2, 3, 54),
    ],
)
def test_epochs_go_first_then_the_last_values_of_the_grid_then_seeds(limit, epochs, num_cut, confirm, seconds):
    found = fit(grid(), limit, TERMS)
    assert (found.epochs, found.confirm, found.seconds) == (epochs, confirm, seconds)
    assert found.cut == ("lr_scale=10", "lr_scale=0.1")[:num_cut]
    assert {run.values["lr_scale"] for run in found.runs} == set(RATES[: 5 - num_cut])


def test_what_does_not_fit_is_refused_below_one_epoch_or_three_seeds():
    assert fit(grid(), 53.9, TERMS) is None
    least = smallest(grid(), TERMS)
    assert (least.epochs, least.num_seeds, least.seconds) == (1, 3, 54)


def test_a_study_may_set_fewest_epochs_below_which_its_grid_is_cut_instead():
    terms = Terms(cut=["lr_scale"], tuned={"lr_scale"}, confirm=5, least_epochs=5)
    found = fit(grid(), 200, terms)  # all would take 210 seconds, and 26 runs of seven seconds take 182
    assert (found.epochs, found.cut, found.seconds) == (5, ("lr_scale=10",), 182)


def test_values_of_a_factor_that_is_not_tuned_go_down_to_two_in_the_order_that_the_study_names():
    terms = Terms(cut=["lr_scale", "optim"])
    found = [cut for cut, _ in budget.stages(grid(rates=("1", "3", "9"), seeds=("1",)), terms)]
    assert found == [(), ("lr_scale=9",)], "two optimizers are the fewest that can be compared"


@pytest.mark.parametrize(("seeds", "left"), [("12345", "123"), ("12", "12"), ("123", "123")])
def test_seeds_beyond_three_are_left_out_where_nothing_is_confirmed(seeds, left):
    runs = grid(rates=("1",), seeds=tuple(seeds))
    found = fit(runs, 3 * 2 * len(left), Terms())
    assert [run.values["seed"] for run in found.runs] == [*left, *left]
    assert found.num_seeds == len(left)


def test_an_arm_is_confirmed_at_its_most_expensive_configuration_and_only_the_best_where_asked():
    costs = {"sgd": COST, "adam": RunCost(start=2.0, epochs=(3.0,))}
    runs = grid(rates=("1",), seeds=("1",), costs=costs)  # 4 and 8 seconds for two epochs
    assert sweep_seconds(runs, 2, 0, Terms()) == 4 + 8
    assert sweep_seconds(runs, 2, 5, Terms(confirm=5)) == 12 + 5 * 12
    assert sweep_seconds(runs, 2, 5, Terms(confirm=5, confirm_best=1)) == 12 + 5 * 8


def test_features_are_counted_once_for_all_runs_that_share_them():
    shared = {name: RunCost(2.0, (1.0,), features=40.0, shared="a") for name in ("sgd", "adam")}
    assert sweep_seconds(grid(costs=shared), 1, 5, TERMS) == 30 * 3 + 40
    random = {name: RunCost(2.0, (1.0,), features=40.0, shared="a", is_by_seed=True) for name in ("sgd", "adam")}
    assert sweep_seconds(grid(costs=random), 1, 5, TERMS) == 30 * 3 + (2 + 5) * 40, "those of two and of five seeds"


def test_runs_side_by_side_take_their_share_and_half_of_the_longest_more():
    runs = grid(rates=("1", "3"), seeds=("1",))  # four of three seconds, two at once
    assert sweep_seconds(runs, 1, 0, Terms(num_workers=2)) == 12 / 2 + 3 / 2


def test_training_sizes_divide_the_epochs_as_in_a_training():
    assert RunCost(1.0, (1.0, 2.0)).seconds(5) == 1 + 3 * 1 + 2 * 2
    assert RunCost(1.0, (1.0, 2.0, 5.0)).seconds(3) == 1 + 8


def test_equal_steps_cost_the_epochs_that_they_resolve_to():
    assert RunCost(1.0, (2.0,), ratio=20.0).seconds(3) == 1 + 60 * 2
    assert RunCost(1.0, (2.0,), ratio=2.5).seconds(1) == 1 + 2 * 2, "rounded as a training does"


def compose(overrides):
    return composed(tuple(text for text in overrides if not text.startswith("study_minutes=")))


@functools.cache
def composed(overrides):
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return configured(hydra.compose("train", list(overrides)), RunConfig)


def request(folder, *typed, minutes=10, rates=("1", "3", "0.3", "10"), cut=(), confirm=0):
    base = [text for text in (*DRAWN, *SMALL) if not text.startswith("epochs=")]
    jobs = [
        [*base, *typed, f"study_minutes={minutes}", f"optim={optim}", f"lr_scale={rate}", "seed=1"]
        for optim in ("sgd", "adam")
        for rate in rates
    ]
    options = SweepConfig("s", 16, plan=False, redo=None, fail_fast=False, confirm=confirm)
    study = StudyConfig(None, ("optim",), ("lr_scale",), cut=cut)
    return Request(minutes, jobs, folder, study, options, frozenset({"lr_scale"}), threads=1, num_workers=1)


@pytest.fixture
def measured(monkeypatch):
    """The configurations that are measured; each run takes two seconds and one for each epoch, on 3,000 test images."""
    found = []

    def measure(config):
        found.append(config)
        return RunCost(2.0, (1.0,), num_test=3000)

    monkeypatch.setattr(run_cost, "estimate_run_cost", measure)
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: 0.0))  # measuring takes no time
    return found


def test_a_sweep_gets_epochs_once_and_finds_them_in_its_study_later(tmp_path, measured, capsys):
    first = request(tmp_path)
    found = budget.resolve(first, compose)
    # Eight runs, 600 seconds without those beside them: (600 - 15) / 1.15 / 8 - 2 is 61.6 epochs.
    assert (FIXED_SECONDS, MARGIN) == (15, 1.15)
    assert found.epochs == 61
    assert found.predicted_minutes == 9.91  # (15 + 1.15 x 8 x 63) / 60
    names = sorted(str(config.optim.others["_target_"]) for config in measured)
    assert names == ["torch.optim.Adam", "torch.optim.SGD"], "one of each that costs alike"
    assert {config.threads for config in measured} == {1}
    assert f"study_minutes=10: epochs={found.epochs} for 8 runs, about" in capsys.readouterr().err

    jobs = budget.fitted_jobs(first.jobs, found)
    assert all(job[-1] == f"epochs={found.epochs}" for job in jobs)
    assert not [text for job in jobs for text in job if text.startswith("study_minutes")]
    named = {str(number): job for number, job in enumerate(jobs)}
    study = StudyConfig(None, None, None)
    assert plan.write(tmp_path, named, study, {}, threads=1, budget=found)
    assert yaml.safe_load((tmp_path / record.STUDY).read_text())["budgets"][0]["epochs"] == found.epochs
    assert budget.resolve(request(tmp_path), compose) == found
    assert len(measured) == 2, "not measured again"
    other = StudyBudget(found.minutes, found.of, epochs=3)
    assert not plan.write(tmp_path, named, study, {}, threads=1, budget=other), "another process was first"
    assert read_study(tmp_path).budgets == (found,)
    budget.resolve(request(tmp_path, minutes=9), compose)
    assert len(measured) == 4, "another time is another budget"


def test_values_left_out_are_named_and_their_runs_are_not_planned(tmp_path, measured, capsys):
    asked_for = request(tmp_path, minutes=1, cut=("lr_scale",), confirm=5)  # (60 - 15) / 1.15 is 39.1
    found = budget.resolve(asked_for, compose)
    assert (found.epochs, found.cut, found.confirm) == (1, ("lr_scale=10",), 3)  # 6 + 6 runs of 3
    said = capsys.readouterr().err
    assert "epochs=1 for 6 runs and 6 confirming runs" in said
    assert "left out to fit: lr_scale=10" in said
    assert "confirmed on 3 fresh seeds instead of 5" in said
    assert len(budget.fitted_jobs(asked_for.jobs, found)) == 6
    assert budget.cut_in_words(found) == [
        "study_minutes=1 left out lr_scale=10: if a best value is at that edge of the grid, raise study_minutes "
        "instead of adding values"
    ]
    (sentence,) = budget.cut_in_words(replace(found, cut=("recipe.head_first=False", "data.exclude=None")))
    assert "left out recipe.head_first=false, data.exclude=null:" in sentence
    assert budget.cut_in_words(replace(found, cut=())) == budget.cut_in_words(None) == []


def test_too_few_minutes_are_refused_with_what_would_fit_and_could_be_detected(tmp_path, measured):
    # Of eight runs that choose and ten that confirm at least 6 + 6 are left, which take 36 seconds; there are 33.9.
    with pytest.raises(UserError) as error:
        budget.resolve(request(tmp_path, minutes=0.9, cut=("lr_scale",), confirm=5), compose)
    said = str(error.value)
    assert said.startswith(
        "study_minutes=0.9 is too short: of 6 configurations at epochs=1 without lr_scale=10, only 2 of 3 seeds would "
        "fit (the smallest detectable"
    )
    assert "set study_minutes=1 for 3 seeds (the smallest detectable difference" in said
    assert "assuming 3,000 test images" in said
    assert not (tmp_path / record.STUDY).exists()
    with pytest.raises(
        UserError, match=r"0.1 is too short: of 8 configurations at epochs=1, not even one seed would fit; "
    ):
        budget.resolve(request(tmp_path, minutes=0.1), compose)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (("epochs=3",), "epochs has no effect with study_minutes, which determines the epochs"),
        (("budget_minutes=3",), "budget_minutes limits each run and study_minutes all runs together"),
        (("study.cut=[scheduler]",), "study.cut names scheduler, which has a single value in this sweep"),
        (("study.cut=[seed]",), "study.cut names seed"),
        (("compile=true",), "study_minutes cannot be combined with compile=true"),
        (("noise_scale=4",), "study_minutes cannot be combined with noise_scale=4"),
    ],
)
def test_options_that_contradict_a_budget_are_refused(tmp_path, measured, typed, sentence):
    cut = tuple(text[11:-1] for text in typed if text.startswith("study.cut="))
    with pytest.raises(UserError, match=sentence):
        budget.resolve(request(tmp_path, *typed, rates=("1", "3"), cut=cut), compose)
    assert not measured


@pytest.mark.parametrize("minutes", ["0", "abc", "-3"])
def test_a_time_has_to_be_a_number_of_minutes(minutes):
    with pytest.raises(UserError, match=f"study_minutes={minutes} must be a number above 0"):
        asked(f"study_minutes={minutes}")


def test_options_of_a_budget_are_refused_without_one():
    with pytest.raises(UserError, match=r"study\.least_epochs has no effect without study_minutes"):
        budget.refuse_idle([["seed=1", "study.least_epochs=2"]], None)
    budget.refuse_idle([["seed=1", "study.least_epochs=2"]], 3)


def test_a_resumed_sweep_keeps_the_epochs_and_the_part_of_the_grid_of_its_study(tmp_path, cache):
    folder = tmp_path / "multirun/s"
    base = [text for text in (*DRAWN, *SMALL) if not text.startswith("epochs=")]
    typed = [*base, "recipe=linear_probe", "data.batch_size=16", f"data.cache_dir={cache}", "study.tuned=[lr_scale]"]
    typed = [*typed, "study_minutes=7", "sweep.name=s"]
    jobs = [[*typed, f"lr_scale={rate}"] for rate in (1, 3)]
    options = SweepConfig("s", 16, plan=False, redo=None, fail_fast=False)
    study = StudyConfig(None, (), ("lr_scale",), cut=(), least_epochs=1)
    digest = Request(7, jobs, folder, study, options, frozenset(), threads=1, num_workers=1).digest
    folder.mkdir(parents=True)
    write_study(folder, StudyPlan(budgets=(StudyBudget(7, digest, epochs=1, cut=("lr_scale=3",)),)))
    done = forked("intel_scenes.train", "-m", *typed, "lr_scale=1,3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "study_minutes=7: epochs=1, from study.yaml" in done.stderr
    assert "1 of 1 runs complete" in done.stdout
    (run,) = (path.parent for path in folder.glob("*/summary.json"))
    overrides = yaml.safe_load((run / record.OVERRIDES).read_text())
    assert overrides[-1] == "epochs=1"
    assert not [text for text in overrides if "study_minutes" in text]
    assert read_study(folder).all_planned == (run.name,)


def test_the_cost_of_a_run_is_measured_on_its_own_images_and_leaves_no_files(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    base = (*DRAWN, *SMALL, f"data.cache_dir={cache}", "data.batch_size=16")
    sizes = run_cost.estimate_run_cost(asked(*base, "recipe.train_size=[16,32]"))
    assert len(sizes.epochs) == 2
    assert min(*sizes.epochs, sizes.start) > 0
    assert (sizes.features, sizes.num_test) == (0, 30)
    head = run_cost.estimate_run_cost(asked(*base, "recipe=linear_probe"))
    assert 0 < head.epochs[0] < min(sizes.epochs), "a head is trained on features"
    assert (head.features > 0, head.is_by_seed) == (True, True)
    share = run_cost.estimate_run_cost(
        asked(*base, "data.train_fraction=0.5", "equal_steps=true", "recipe=linear_probe")
    )
    assert 1.5 < share.ratio < 3
    assert not list(tmp_path.iterdir())
