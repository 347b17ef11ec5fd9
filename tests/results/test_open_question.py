"""The rules of the open question: each can hold and fail, on simulated trials whose truth is known."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
import torch
import torchvision
from scipy import stats
from sklearn.linear_model import LogisticRegression

from intel_scenes.config import of_record
from intel_scenes.errors import UserError
from intel_scenes.record import Averages, Summary
from intel_scenes.training.build import build_data
from results.open_question import analyse, figures, noise_claims, optimum, problem_claims, schedule_claims, trials_table
from results.open_question.cells import gain_estimate
from results.open_question.claims import Answer, Claim
from results.open_question.intervals import Estimate, Verdict, all_of, mean, ratio, slopes, within
from results.open_question.runs import WITH_NORMS, WITHOUT_NORMS, Problem, read_trials, schedule_of
from results.open_question.wanted import wanted
from tests.results.simulated_question import leave_noise, leave_run, other_problem, study, trials

HELD, REFUTED, UNDECIDED, NOT_RUN = Verdict.HELD, Verdict.REFUTED, Verdict.UNDECIDED, Verdict.NOT_RUN


def only(answers: list[Answer], claim: Claim) -> Answer:
    (answer,) = [one for one in answers if one.claim is claim]
    return answer


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


# Records


def test_a_run_at_a_constant_rate_is_a_trial_of_its_weights_and_one_of_each_average(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", excess=0.1, averaged=0.02)
    live, averaged = read_trials([tmp_path])
    assert (live.cell.schedule, averaged.cell.schedule) == ("constant", "averaging 0.1")
    assert live.curve == pytest.approx([0.7, 0.6, 0.5, 0.4])  # two thirds of it the loss, one third the penalty
    assert averaged.objective == pytest.approx(0.32)
    assert live.val_loss == pytest.approx(0.4 * 2 / 3)
    assert (live.cell.passes, live.cell.regime, live.cell.is_full) == (20, "samples", False)


def test_an_average_of_a_decayed_run_is_no_trial(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", scheduler="wsd", averaged=0.02)
    assert [trial.cell.schedule for trial in read_trials([tmp_path])] == ["wsd"]


def test_the_average_of_all_weights_is_no_trial_of_a_network_whose_first_ones_were_random(tmp_path: Path) -> None:
    for trained, shares in (("head", [1.0]), ("all", [0.1, 1.0])):
        folder = leave_run(tmp_path / trained, settings={"recipe.trained": trained, "averages": shares})
        rows = Averages.read(folder).rows
        Averages(tuple(replace(row, window=window) for row in rows for window in (0.0, *shares))).write(folder)
    found = {(trial.cell.problem.trained, trial.cell.schedule) for trial in read_trials([tmp_path])}
    assert found == {("head", "constant"), ("head", "averaging 1"), ("all", "constant"), ("all", "averaging 0.1")}


def test_a_batch_of_all_images_for_two_thousand_steps_has_its_own_regime(tmp_path: Path) -> None:
    settings: dict[str, object] = {"data.passes_per_epoch": 500}
    leave_run(tmp_path / "a", batch_size=96, settings=settings)
    (trial,) = read_trials([tmp_path])
    assert trial.cell.is_full
    assert trial.cell.regime == "steps"


def test_a_run_that_diverged_counts_as_infinitely_bad_with_its_averages(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", status="failed", error="the loss is not finite at step 3")
    leave_run(tmp_path / "b", status="failed", error="no space left on device", seed=2)
    found = read_trials([tmp_path])
    assert [(trial.cell.schedule, trial.objective) for trial in found] == [
        ("constant", math.inf),
        ("averaging 0.1", math.inf),
    ]


def test_decoupled_decay_minimizes_another_function_and_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adamw: dict[str, object] = {"optim._target_": "torch.optim.AdamW"}
    leave_run(tmp_path / "a", optim="adamw", settings=adamw)
    leave_run(tmp_path / "b", optim="adamw", settings=adamw | {"optim.weight_decay": 0.0})
    assert [trial.folder.name for trial in read_trials([tmp_path])] == ["b"]
    assert "decoupled weight decay, which minimizes another function" in caplog.text


def test_a_run_in_two_studies_counts_once_and_two_runs_in_one_place_are_refused(tmp_path: Path) -> None:
    for name in ("first", "second"):
        leave_run(tmp_path / name / "a", config_digest="same")
    assert len(read_trials([tmp_path / "first", tmp_path / "second"])) == 1
    leave_run(tmp_path / "second" / "b", config_digest="with noise_scale")
    leave_noise(tmp_path / "second" / "b", (2, 30))
    (trial,) = read_trials([tmp_path / "first", tmp_path / "second"])
    assert trial.noise == (2.0, 30.0)
    leave_run(tmp_path / "second" / "c", config_digest="other", excess=0.2)
    with pytest.raises(UserError, match="differ in a key that is not a factor here"):
        read_trials([tmp_path / "first", tmp_path / "second"])


def test_seeds_that_draw_their_own_images_are_refused(tmp_path: Path) -> None:
    for seed in (1, 2):
        leave_run(tmp_path / str(seed), seed=seed, subset_seed=seed, train_fraction=0.5)
    with pytest.raises(UserError, match=r"different optima: fix data\.subset_seed"):
        read_trials([tmp_path])


def test_seeds_of_subsets_do_not_matter_to_runs_on_all_images(tmp_path: Path) -> None:
    for seed in (1, 2):
        leave_run(tmp_path / str(seed), seed=seed, subset_seed=seed, train_fraction=1.0)
    assert len(read_trials([tmp_path])) == 2


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no finished run with averages\.csv"):
        read_trials([tmp_path])


def test_trials_are_kept_in_a_table_that_needs_no_records(tmp_path: Path) -> None:
    leave_run(tmp_path / "records" / "a", excess=0.1, averaged=0.02)
    leave_noise(tmp_path / "records" / "a", (2, 30))
    leave_run(tmp_path / "records" / "b", seed=2, status="failed", error="the loss is not finite at step 3")
    trials = read_trials([tmp_path / "records"])
    trials_table.write(trials, tmp_path / "records")
    shutil.rmtree(tmp_path / "records" / "a")
    kept = trials_table.read(tmp_path / "records")
    assert sorted(kept, key=str) == sorted(trials, key=str)
    assert len(read_trials([tmp_path / "records"], known=kept)) == len(trials) == 4
    leave_run(tmp_path / "records" / "c", excess=0.2)
    with pytest.raises(UserError, match="differ in a key that is not a factor here"):
        read_trials([tmp_path / "records"], known=kept)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("linear", {"scheduler.factory.end_factor": 0}, "linear"),
        ("linear", {"scheduler.factory.end_factor": 0.1}, "linear to 0.1"),
        ("power", {"scheduler.factory.power": 2.0}, "power 2"),
        ("power", {"scheduler.factory.power": 1}, "linear"),
        ("linear", {"batch_growth": 1}, "growing"),
        ("constant", {"batch_growth": None}, "constant"),
    ],
)
def test_schedules_are_named_by_what_distinguishes_them(name: str, settings: dict[str, object], expected: str) -> None:
    assert schedule_of(name, settings) == expected


def test_noise_and_signal_are_averaged_apart_over_the_second_half(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "a")
    leave_noise(folder, (100, 1), (50, 1), (1, 30), (3, 10))
    (trial,) = read_trials([tmp_path])
    assert trial.noise == (2.0, 20.0)


# The optimum


def features(num_images: int = 90, num_features: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(num_images) % 3
    return rng.normal(3.0, 1.0, (num_images, num_features)) * 4 + labels[:, None] * [2, 0, 0, 1, 0], labels


def test_the_optimum_is_that_of_scikit_learn() -> None:
    inputs, labels = features()
    decay = 0.01
    # Its penalty is 1 / (2 C) for the sum of the losses, and it does not decay the intercept either.
    fitted = LogisticRegression(C=1 / (decay * len(labels)), tol=1e-10, max_iter=10_000).fit(inputs, labels)
    losses = -np.log(fitted.predict_proba(inputs)[np.arange(len(labels)), labels])
    expected = losses.mean() + decay / 2 * np.square(fitted.coef_).sum()
    found, spectrum = optimum.solve(inputs, labels, decay, 3)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.gradient_norm < 1e-6
    assert found.gap < 1e-9
    assert spectrum == pytest.approx(np.linalg.svd(np.cov(inputs.T, bias=True), compute_uv=False))


def test_the_curvature_is_that_of_the_hessian_of_torch() -> None:
    inputs, labels = (torch.tensor(part) for part in features())
    weights = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10

    def objective(flat: torch.Tensor) -> torch.Tensor:
        matrix = flat.reshape(3, 6)
        loss = torch.nn.functional.cross_entropy(inputs @ matrix[:, :-1].T + matrix[:, -1], labels)
        return loss + 0.25 * matrix[:, :-1].square().sum()

    hessian = torch.autograd.functional.hessian(objective, weights.flatten())
    expected = float(torch.linalg.eigvalsh(hessian)[-1])
    assert optimum.curvature(inputs.numpy(), weights.numpy(), 0.5) == pytest.approx(expected)


def test_a_problem_without_a_penalty_has_no_optimum() -> None:
    with pytest.raises(UserError, match=r"at infinity: set optim\.weight_decay"):
        optimum.solve(*features(), 0.0, 3)


def test_the_capacity_exponent_is_that_of_the_spectrum() -> None:
    power = optimum.capacity_exponent(np.arange(1, 401) ** -1.7)
    assert (power.value, power.low, power.high) == pytest.approx((1.7, 1.7, 1.7))
    bent = optimum.capacity_exponent(np.exp(-np.arange(1, 401) / 50))
    assert bent.low < bent.value < bent.high


def test_the_optimum_is_computed_once_and_no_run_may_lie_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = features()
    monkeypatch.setattr(optimum, "training_features", lambda folder: (inputs, labels, 3))
    lowest = optimum.solve(inputs, labels, 0.5, 3)[0].value
    leave_run(tmp_path / "study" / "a", lowest=lowest)
    found = read_trials([tmp_path / "study"])
    monkeypatch.setattr(optimum, "FIRST_RANK", 1)
    assert optimum.optima(found, tmp_path)[found[0].cell.problem].value == pytest.approx(lowest)
    monkeypatch.delattr(optimum, "training_features")
    assert optimum.optima(found, tmp_path)[found[0].cell.problem].value == pytest.approx(lowest)
    leave_run(tmp_path / "study" / "b", lowest=lowest, excess=-1e-4, seed=2)
    with pytest.raises(UserError, match=r"b ends at .* below the optimum"):
        optimum.optima(read_trials([tmp_path / "study"]), tmp_path)


def test_features_are_the_input_of_the_last_layer_for_the_training_images(
    run: Callable[..., Summary | None], tmp_path: Path
) -> None:
    folder = tmp_path / "probe"
    probe = ("recipe=linear_probe", "recipe.label_smoothing=0", "optim=sgd", "data.crop_fraction=1.0", "epochs=1")
    run("model=mobilenet_v3_small", *probe, "data.batch_size=16", "data.train_fraction=0.5", folder=folder)
    inputs, labels, num_classes = optimum.training_features(folder)
    network = torchvision.models.mobilenet_v3_small(num_classes=num_classes).eval()
    checkpoint = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    torch.nn.ModuleDict({"network": network}).load_state_dict(checkpoint["state_dict"])
    seen: list[torch.Tensor] = []
    network.classifier[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    data = build_data(of_record(folder))
    batch = data.images.batch(data.splits.train)
    with torch.inference_mode():
        network(data.pipeline.eval_view(batch.images))
    assert inputs == pytest.approx(seen[0].numpy(), abs=1e-5)
    assert labels.tolist() == batch.labels.tolist()
    assert len(labels) == len(data.splits.train) < 120 * 0.5


# Intervals


def test_the_interval_of_a_mean_is_students() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean(values) == Estimate(3.0, pytest.approx(low), pytest.approx(high), 4)
    assert mean([3.0]) == Estimate(3.0, -math.inf, math.inf, 1)


def test_the_bounds_of_a_ratio_are_where_the_difference_becomes_significant() -> None:
    above, below = {2: 0.9, 3: 1.1, 4: 1.0, 5: 0.8}, {2: 1.0, 3: 1.3, 4: 1.1, 5: 1.2}
    found = ratio(above, below)
    assert found.value == pytest.approx(3.8 / 4.6)
    for bound in (found.low, found.high):
        differences = [above[seed] - bound * below[seed] for seed in above]
        assert stats.ttest_1samp(differences, 0).pvalue == pytest.approx(0.05)
    halves = ratio({seed: value / 2 for seed, value in below.items()}, below)
    assert (halves.low, halves.high) == pytest.approx((0.5, 0.5), abs=1e-6)
    assert ratio(above, {2: 1.0, 3: -1.0, 4: 1.0, 5: -0.5}).high == math.inf
    assert math.isnan(ratio(above, {2: 0.1 + 0.2, 3: -0.3, 4: 0.1, 5: -0.1}).value)  # 0 but for rounding: 1.4e-17


def test_slopes_are_those_of_statsmodels() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 12))
    outcomes = 2 * first - second + 0.1 * rng.normal(size=12)
    expected = sm.OLS(outcomes, sm.add_constant(np.column_stack([first, second]))).fit()
    found = slopes(list(outcomes), list(first), list(second))
    assert [one.value for one in found] == pytest.approx(list(expected.params[1:]))
    assert [(one.low, one.high) for one in found] == [pytest.approx(tuple(one)) for one in expected.conf_int()[1:]]


def test_verdicts() -> None:
    assert within(Estimate(1, 0.9, 1.1, 4), 0.75, 1.25) is HELD
    assert within(Estimate(1.2, 1.1, 1.3, 4), 0.75, 1.25) is UNDECIDED
    assert within(Estimate(1.5, 1.3, 1.7, 4), 0.75, 1.25) is REFUTED
    assert all_of([HELD, NOT_RUN]) is HELD
    assert all_of([HELD, UNDECIDED]) is UNDECIDED
    assert all_of([HELD, UNDECIDED, REFUTED]) is REFUTED
    assert all_of([]) is NOT_RUN


# Tuning


def test_seed_one_chooses_and_the_others_measure() -> None:
    groups = trials("sgd", 16, "constant", 0.1), trials("sgd", 16, "linear", 0.04, accuracy=0.92)
    made = study(*groups)
    (constant,) = made.constant("training", made.main)
    assert (constant.lr, constant.edge, list(constant.values)) == (1.0, "", [2, 3, 4, 5])
    decayed = made.under(constant, "linear", "wsd")
    assert decayed is not None
    assert gain_estimate(constant, decayed).value == pytest.approx(0.06)
    (at_test,) = made.constant("test", made.main)
    decayed = made.under(at_test, "linear")
    assert decayed is not None
    assert gain_estimate(at_test, decayed).value == pytest.approx(0.02)


def test_a_rate_at_the_end_of_the_grid_is_marked() -> None:
    kept = [trial for trial in trials("sgd", 16, "constant", 0.1) if trial.lr <= 1]
    (constant,) = study(iter(kept)).cells("training", kept[0].cell.problem)
    assert constant.edge == "highest"


# Noise

BATCHES = (16, 64, 256, 1024)


@pytest.mark.parametrize(("exponent", "verdict"), [(1.0, HELD), (0.5, REFUTED), (1.6, UNDECIDED), (2.2, REFUTED)])
def test_slope_of_the_excess(exponent: float, verdict: Verdict) -> None:
    cells = [
        trials("sgd", batch, "constant", 0.1 * (16 * lr / batch) ** exponent, best=lr)
        for batch in BATCHES
        for lr in (1, 2)
    ]
    answer = only(noise_claims.answers(study(*_at_their_rates(cells))), noise_claims.SLOPE)
    assert answer.verdict is verdict
    assert answer.estimate.value == pytest.approx(exponent, abs=0.02)


def _at_their_rates(cells):
    """Keep the best rate of each group, since the others do not follow its law."""
    for number, group in enumerate(cells):
        yield (trial for trial in group if trial.lr == (1, 2)[number % 2])


def test_cells_near_the_largest_stable_rate_oscillate_and_say_nothing_of_noise() -> None:
    made = study(*(trials("sgd", 16, "constant", 0.01, best=rate) for rate in (2.1, 2.2)))  # 1.9 / 0.9 is between
    rates = {lr for lr, _ in noise_claims.stationary_cells(made, "sgd")}
    assert rates == {2.1 / 3, 2.1, 2.2 / 3}


def test_trainings_that_still_descend_are_not_stationary() -> None:
    falling = (2.0, 1.8, 1.6, 1.4, 1.2)
    diverged = [
        replace(trial, curve=(math.inf,)) if trial.seed in (1, 4) else trial
        for trial in trials("sgd", 256, "constant", 1.0)
    ]
    steady = trials("sgd", 64, "constant", 0.01, best=0.5)
    made = study(trials("sgd", 16, "constant", 0.01, curve=falling), steady, diverged)
    assert {batch for _, batch in noise_claims.stationary_cells(made, "sgd")} == {64}
    answer = only(noise_claims.answers(made), noise_claims.SLOPE)
    assert (answer.verdict, answer.measured) == (UNDECIDED, "3 stationary cells, too few for a slope")


def decay(optimizer: str, batch: int, gained: float, **more):
    """Two cells whose D is known."""
    return (
        trials(optimizer, batch, "constant", 0.05 + gained, **more),
        trials(optimizer, batch, "linear", 0.05, **more),
    )


@pytest.mark.parametrize(
    ("at_full", "verdict"),
    [(0.001, HELD), (0.1, REFUTED), (0.05, UNDECIDED), (0.03, UNDECIDED), (-0.03, UNDECIDED)],
)
def test_whether_decay_stops_helping_at_full_batch(at_full: float, verdict: Verdict) -> None:
    spread = 0.1 if at_full == 0.05 else 0.01  # 0.03 is less than 0.052, but has not vanished
    twenty_steps = decay("sgd", 6_000, -0.04)  # equal samples, which decide nothing
    full = decay("sgd", 6_000, at_full, passes=2_000)
    made = study(*decay("sgd", 16, 0.052, spread=spread), *twenty_steps, *full)
    answer = only(noise_claims.answers(made), noise_claims.VANISHING)
    assert answer.verdict is verdict
    assert answer.estimate.value == pytest.approx(0.052 - at_full)


@pytest.mark.parametrize(
    ("of_adam", "of_sgd", "verdict"),
    [(0.1, 0.001, HELD), (0.1, 0.05, UNDECIDED), (0.05, 0.1, REFUTED), (-0.01, -0.03, REFUTED)],
)
def test_whether_normalized_steps_need_decay_at_full_batch(of_adam: float, of_sgd: float, verdict: Verdict) -> None:
    gains = {"adam": of_adam, "sgd_plain": of_sgd}
    made = study(*(cell for name, gained in gains.items() for cell in decay(name, 6_000, gained, passes=2_000)))
    assert only(noise_claims.answers(made), noise_claims.NORMALIZED_STEPS).verdict is verdict


@pytest.mark.parametrize(
    ("gains", "at_equal_steps", "verdict"),
    [
        ((0.2, 0.1, 0.05, 0.01), (0.2, 0.01), HELD),
        ((0.2, 0.1, 0.05, 0.01), (0.2, 0.3), REFUTED),  # only because larger batches took fewer steps
        ((0.2, 0.1, 0.05, 0.01), (0.2,), UNDECIDED),
        ((0.1, 0.01, 0.2, 0.05), (0.2, 0.01), REFUTED),
        ((0.01, 0.05, 0.1, 0.2), (0.2, 0.01), REFUTED),
    ],
)
def test_whether_decay_helps_below_the_noise_scale(
    gains: tuple[float, ...], at_equal_steps: tuple[float, ...], verdict: Verdict
) -> None:
    cells = [
        group
        for optimizer in ("sgd_plain", "sgd", "adam")
        for batch, gained in zip(BATCHES, gains, strict=True)
        for group in decay(optimizer, batch, gained, noise_scale=200.0)
    ]
    cells += [
        group
        for optimizer in ("sgd_plain", "adam")
        for batch, passes, gained in zip((60, 1_000), (20, 333), at_equal_steps, strict=False)
        for group in decay(optimizer, batch, gained, passes=passes)
    ]
    assert only(noise_claims.answers(study(*cells)), noise_claims.NOISE_SCALE).verdict is verdict


@pytest.mark.parametrize(
    ("at_small", "at_large", "verdict"), [(0.01, 0.1, HELD), (0.1, 0.01, REFUTED), (-0.04, -0.01, UNDECIDED)]
)
def test_whether_the_lead_of_adam_shrinks_at_small_batches(at_small: float, at_large: float, verdict: Verdict) -> None:
    cells = [
        trials(optimizer, batch, "constant", 0.05 + lead * (optimizer == "sgd"))
        for optimizer in ("sgd", "adam")
        for batch, lead in ((16, at_small), (1024, at_large))
    ]
    answer = only(noise_claims.answers(study(*cells)), noise_claims.SMALL_BATCHES)
    assert answer.verdict is verdict
    assert answer.estimate.value == pytest.approx(at_large - at_small)


# Schedules


@pytest.mark.parametrize(
    ("last", "early", "verdict"), [(0.0505, 1.0, HELD), (0.08, 1.0, REFUTED), (0.0505, 3.0, REFUTED)]
)
def test_whether_a_growing_batch_equals_decay(last: float, early: float, verdict: Verdict) -> None:
    curve = (early,) * 2 + (1.0,) * 3
    made = study(*decay("sgd", 16, 0.05, spread=0.001), trials("sgd", 16, "growing", last, curve=curve, spread=0.001))
    answer = only(schedule_claims.answers(made), schedule_claims.GROWTH)
    assert answer.verdict is verdict
    assert answer.estimate.value == pytest.approx((last - 0.05) / 0.05)


def test_a_growing_batch_that_diverged_is_undecided() -> None:
    diverged = [replace(trial, curve=(math.inf,)) for trial in trials("sgd", 16, "growing", 0.05)]
    answer = only(schedule_claims.answers(study(*decay("sgd", 16, 0.05), diverged)), schedule_claims.GROWTH)
    assert answer.verdict is UNDECIDED


@pytest.mark.parametrize(("share", "suffices", "fails"), [(0.97, HELD, REFUTED), (0.6, REFUTED, HELD)])
def test_whether_averaging_recovers_the_gain_of_decay(share: float, suffices: Verdict, fails: Verdict) -> None:
    gained = 0.1
    made = study(
        *decay("adam", 64, gained),
        trials("adam", 64, "averaging 0.1", 0.15 - share * gained, best=3.0),
        trials("adam", 64, "averaging 1", 0.15),
    )
    answers = [one for one in schedule_claims.answers(made) if one.scope == "adam, training"]
    first, second = only(answers, schedule_claims.AVERAGING_SUFFICES), only(answers, schedule_claims.AVERAGING_FAILS)
    assert (first.verdict, second.verdict) == (suffices, fails)
    assert first.estimate.value == pytest.approx(share)
    assert "averaging 0.1" in first.measured


def test_averages_of_a_network_are_judged_apart_from_those_of_frozen_features() -> None:
    made = study(
        *decay("sgd", 64, 0.1),
        trials("sgd", 64, "averaging 0.1", 0.053),
        *decay_in_network(network(), 0.1, batch=16),
        trials("sgd", 16, "averaging 0.3", 0.15, problem=network()),
    )
    answers = [one for one in schedule_claims.answers(made) if one.claim is schedule_claims.AVERAGING_SUFFICES]
    found = {one.scope: (one.verdict, one.estimate.value) for one in answers if "training" in one.scope}
    assert found == {
        "sgd, training": (HELD, pytest.approx(0.97)),
        "sgd, training, resnet9_x0_5 trained, weight decay 0.0001, all images": (REFUTED, pytest.approx(0.5)),
    }


def test_averaging_is_undecided_where_decay_gains_nothing() -> None:
    made = study(*decay("adam", 64, -0.01), trials("adam", 64, "averaging 0.1", 0.01))
    (answer, *_) = [one for one in schedule_claims.answers(made) if one.scope == "adam, training"]
    assert (answer.verdict, answer.measured) == (UNDECIDED, "D does not lie above 0 in any of 1 cells")


@pytest.mark.parametrize(
    ("shares", "verdict"), [((0.1, 0.2, 0.4), HELD), ((0.2, 0.2, 0.1), REFUTED), ((-0.3, -0.2, -0.1), REFUTED)]
)
def test_whether_zero_beats_a_floor_the_more_the_longer(shares: tuple[float, ...], verdict: Verdict) -> None:
    # The excess falls with the length, and the difference in excess with it: what counts is its share.
    cells = [
        trials("adam", 64, schedule, (1 + share * (schedule == "linear to 0.1")) / passes**2, passes=passes)
        for passes, share in zip((5, 20, 80), shares, strict=True)
        for schedule in ("linear", "linear to 0.1")
    ]
    assert only(schedule_claims.answers(study(*cells)), schedule_claims.TO_ZERO).verdict is verdict


@pytest.mark.parametrize(("beta", "verdict"), [(1.5, HELD), (3.0, REFUTED), (0.98, UNDECIDED)])
def test_whether_the_spectrum_gives_the_best_exponent(beta: float, verdict: Verdict) -> None:
    excess = {"power 0.5": 0.09, "linear": 0.06, "power 2": 0.05, "power 3": 0.07}
    cells = [trials("sgd", 16, schedule, value) for schedule, value in excess.items()]
    answer = only(schedule_claims.answers(study(*cells, beta=beta)), schedule_claims.EXPONENT)
    assert (answer.verdict, answer.estimate) == (verdict, Estimate(2.0, 1.0, 3.0, 4))


# Problems

THINNED = other_problem(images="zipf")


def leads(*values: tuple[float, int, object]):
    """Cells of SGD and Adam at a constant rate, the first with a multiple of the excess of the second."""
    return [
        trials(optimizer, batch, "constant", 0.01 * (multiple if optimizer == "sgd" else 1), problem=problem)
        for multiple, batch, problem in values
        for optimizer in ("sgd", "adam")
    ]


@pytest.mark.parametrize(("thinned", "verdict"), [(3.0, HELD), (1.0, REFUTED)])
def test_whether_thinned_classes_open_the_lead_of_adam(thinned: float, verdict: Verdict) -> None:
    every = [(1.0, batch, other_problem()) for batch in (16, 6_000)]
    made = study(*leads(*every, *[(1.0, 64, other_problem())], (thinned, 16, THINNED), (thinned, 6_000, THINNED)))
    answer = only(problem_claims.answers(made), problem_claims.OPENING)
    assert answer.verdict is verdict
    assert answer.estimate.value == pytest.approx(math.log(thinned), abs=1e-9)
    assert answer.measured.startswith("batch full, 20 passes")


@pytest.mark.parametrize(("at_full", "verdict"), [(3.0, HELD), (1.5, REFUTED)])
def test_whether_that_lead_survives_larger_batches(at_full: float, verdict: Verdict) -> None:
    balanced = [(1.0, batch, other_problem()) for batch in (16, 64, 6_000)]
    made = study(*leads(*balanced, (3.0, 16, THINNED), (at_full, 6_000, THINNED)))
    assert only(problem_claims.answers(made), problem_claims.NOT_NOISE).verdict is verdict


def network(model: str = WITH_NORMS, weight_decay: float = 0.0001) -> Problem:
    return other_problem(model=model, trained="all", weight_decay=weight_decay)


def decay_in_network(problem: Problem, gained: float, batch: int = 64):
    """Two cells whose D is known: of the training loss, and a tenth of it of the test accuracy."""
    return (
        trials("sgd", batch, "constant", 0.1 + gained, problem=problem, accuracy=0.8),
        trials("sgd", batch, "linear", 0.1, problem=problem, accuracy=0.8 + gained / 10),
    )


@pytest.mark.parametrize(
    ("with_norms", "without", "verdict"),
    [(0.3, 0.0, HELD), (-0.3, 0.05, HELD), (0.0, 0.3, REFUTED), (0.0, 0.0, REFUTED), (0.32, 0.3, REFUTED)],
)
def test_whether_weight_decay_matters_with_batch_norm(with_norms: float, without: float, verdict: Verdict) -> None:
    changes = {WITH_NORMS: with_norms, WITHOUT_NORMS: without}
    cells = [
        cell
        for model, change in changes.items()
        for weight_decay, gained in ((0.0001, 0.4), (0.01, 0.4 + change))
        for cell in decay_in_network(network(model, weight_decay), gained)
    ]
    frozen = decay("sgd", 64, 0.1)  # is no control
    other_batch = decay_in_network(network(), 0.7, batch=16)
    answers = [
        one for one in problem_claims.answers(study(*cells, *frozen, *other_batch)) if one.claim is problem_claims.NORMS
    ]
    assert [(one.scope, one.verdict) for one in answers] == [("sgd, training", verdict), ("sgd, test", verdict)]
    difference = with_norms - without
    assert [one.estimate.value for one in answers] == pytest.approx([difference, difference / 10])


def test_one_fresh_seed_decides_nothing_about_weight_decay() -> None:
    cells = [
        (trial for trial in cell if trial.seed <= 2)
        for model in (WITH_NORMS, WITHOUT_NORMS)
        for weight_decay, gained in ((0.0001, 0.4), (0.01, 0.8 if model == WITH_NORMS else 0.4))
        for cell in decay_in_network(network(model, weight_decay), gained)
    ]
    answers = [one for one in problem_claims.answers(study(*cells)) if one.claim is problem_claims.NORMS]
    assert [one.verdict for one in answers] == [UNDECIDED, UNDECIDED]


@pytest.mark.parametrize(("at_small", "at_large", "verdict"), [(0.3, 0.1, HELD), (0.1, 0.3, REFUTED)])
def test_whether_decay_helps_a_network_more_at_small_batches(
    at_small: float, at_large: float, verdict: Verdict
) -> None:
    cells = [
        cell
        for batch, gained in ((256, at_large), (16, at_small), (64, 0.2))
        for cell in decay_in_network(network(), gained, batch)
    ]
    strong = [cell for batch in (16, 256) for cell in decay_in_network(network(weight_decay=0.01), 1 / batch, batch)]
    answers = [one for one in problem_claims.answers(study(*cells, *strong)) if one.claim is problem_claims.IN_NETWORK]
    assert [(one.scope, one.verdict) for one in answers] == [("sgd, training", verdict), ("sgd, test", verdict)]
    assert answers[0].estimate.value == pytest.approx(at_small - at_large)


# The whole


def test_rows_without_runs_say_so() -> None:
    made = study(trials("adam", 16, "constant", 0.1))
    answers = analyse.answers(made)
    assert {answer.verdict for answer in answers} == {NOT_RUN}
    assert len({answer.claim.prediction for answer in answers}) == len(answers) == 14


def test_tables_and_figures_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    inputs, labels = features()
    monkeypatch.setattr(optimum, "training_features", lambda folder: (inputs, labels, 3))
    monkeypatch.setattr(optimum, "FIRST_RANK", 1)
    lowest = optimum.solve(inputs, labels, 0.5, 3)[0].value
    for seed in (1, 2, 3):
        for lr in (0.1, 1.0, 10.0) if seed == 1 else (1.0,):
            worse, wobble = (1 if lr == 1 else 2), 1 + 0.01 * seed
            common = {"seed": seed, "lr": lr, "lowest": lowest}
            leave_run(
                tmp_path / f"a/c{seed}{lr}", excess=0.1 * worse * wobble, averaged=0.05 * worse * wobble, **common
            )
            leave_run(tmp_path / f"a/l{seed}{lr}", scheduler="linear", excess=0.02 * worse * wobble, **common)
    output = tmp_path / "out"
    analyse.main([str(tmp_path / "a"), str(output)])
    assert "refuted    Sandler" in capsys.readouterr().out  # 0.05 of 0.08
    tables = {name: rows(output / f"{name}.csv") for name in ("cells", "decay", "averaging")}
    excess = {row["schedule"]: float(row["excess"]) for row in tables["cells"]}
    assert excess == pytest.approx({"averaging 0.1": 0.05125, "constant": 0.1025, "linear": 0.0205})
    (gained,) = [row for row in tables["decay"] if row["outcome"] == "training"]
    assert (float(gained["D"]), gained["seeds"]) == (pytest.approx(0.082), "2 3")
    assert float(gained["share_of_excess"]) == pytest.approx(0.8)
    (share,) = [row for row in tables["averaging"] if row["outcome"] == "training"]
    assert (float(share["share_of_D"]), share["window"]) == (pytest.approx(0.05 / 0.08), "0.1")
    assert json.loads((output / "optimum.json").read_text())[0]["value"] == pytest.approx(lowest)
    assert {row["verdict"] for row in rows(output / "predictions.csv")} == {"refuted", "held", "undecided", "not run"}
    assert all((output / name).stat().st_size > 10_000 for name in ("excess.png", "decay.png"))


def test_a_line_is_one_schedule_and_of_averages_the_window_that_screening_found_best() -> None:
    common = {"batch": "64", "passes": "20", "steps": "500", "excess_low": "", "excess_high": ""}
    excess = {"linear": 0.3, "linear to 0.1": 0.2, "averaging 0.1": 0.2, "averaging 1": 0.1}
    cells = [common | {"schedule": how, "screened_excess": str(value), "excess": ""} for how, value in excess.items()]
    marks = {schedule: list(figures.marks_of(cells, schedule).values()) for schedule in ("linear", "averaging", "wsd")}
    assert marks == {"linear": [(0.3, None, False)], "averaging": [(0.1, None, False)], "wsd": []}


def test_what_is_missing_is_the_next_rate_or_the_seeds_that_confirm() -> None:
    at_edge = [trial for trial in trials("sgd", 16, "constant", 0.1) if trial.lr <= 1]
    averages = [
        trial
        for window, excess, best in (("0.1", 0.02, 4.0), ("1", 0.03, 8.0))
        for trial in trials("adam", 16, f"averaging {window}", excess, best=best)
        if trial.seed in (1, 3)
    ]
    live = trials("adam", 16, "constant", 0.1)
    found = [
        (one.cell.optimizer, one.cell.schedule, one.lr, one.seed) for one in wanted(study(at_edge, averages, live))
    ]
    assert found == [
        ("adam", "constant", 1.0, 6),
        *(("adam", "constant", 4.0, seed) for seed in (2, 4, 5, 6)),  # of the better window alone
        ("sgd", "constant", 3.0, 1),
    ]
