"""The gap of optimizers: simulated runs whose gap is a known function of the training loss."""

import csv
import math

import numpy as np
import pytest
from scipy import stats

from intel_scenes import record
from intel_scenes.errors import UserError
from results import plots
from results.optimizers import analyse
from tests.studies.simulated_records import leave_run, right

EPOCHS = 8


def leave_curve(study, typed, *, speed, offset, noise=0.0, with_averages=True, flat_after=EPOCHS):
    """Write a run whose training loss is exp(-speed (epoch + 1)) and whose gap is 0.02 - 0.02 log(loss) + offset."""
    name = ",".join(f"{key}={value}" for key, value in typed.items())
    loss = np.exp(-speed * np.minimum(np.arange(EPOCHS) + 1, flat_after))
    gap = 0.02 - 0.02 * np.log(loss) + offset + noise
    train = 0.9 + 0.05 * np.arange(EPOCHS) / EPOCHS
    val = train - gap
    best = int(np.argmax(val))
    results = {"best_epoch": best, "train_accuracy": train[best], "val_accuracy": val[best]}
    folder = leave_run(
        study, name, typed, right(0.9, seed=typed["seed"]), lr=0.001 * typed.get("lr_scale", 1), **results
    )
    with (folder / record.HISTORY).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(record.HISTORY_COLUMNS)
        for epoch in range(EPOCHS):
            # The loss seen while training is another one, so that a reader of the wrong file is found out.
            writer.writerow((epoch, epoch, 0.1, 3.0 - epoch / 10, 0.5, train[epoch], 1.0, val[epoch], 1.0, val[epoch]))
    if with_averages:
        rows = [
            record.AveragedEpoch(epoch, epoch, window, train_loss, 0.9, 1.0, 0.9, None, None, 1.0)
            for epoch in range(EPOCHS)
            for window, train_loss in ((0.0, loss[epoch]), (0.5, 99.0))
        ]
        record.Averages(tuple(rows)).write(folder)


def leave_study(study, *, offset, seeds=(1, 2, 3, 4, 5), **options):
    """Write a study in which Adam is three times as fast as SGD, with a gap wider by `offset` at equal loss."""
    rng = np.random.default_rng(3)
    for seed in seeds:
        for optim, speed, wider in (("sgd", 0.1, 0.0), ("adam", 0.3, offset)):
            noise = 0.001 * rng.normal()
            leave_curve(study, {"optim": optim, "seed": seed}, speed=speed, offset=wider, noise=noise, **options)


def rows_of(study):
    return {
        (row.measure, row.rate, row.at): row
        for row in analyse.compared(analyse.groups_of(study))
        if row.at != analyse.EQUAL_LOSS
    }


def test_a_faster_optimizer_has_the_wider_gap_at_the_last_epoch_but_not_at_equal_training_loss(tmp_path):
    leave_study(tmp_path, offset=0.0)

    rows = rows_of(tmp_path)

    last, equal = rows["gap", "best", "last epoch"], rows["gap", "best", "mean over equal losses"]
    assert last.difference == pytest.approx(
        0.02 * 8 * (0.3 - 0.1), abs=0.002
    )  # the gap grows by 0.02 per unit of log loss
    assert (last.a, last.b, last.verdict) == ("adam", "sgd", "higher")
    assert equal.low < 0 < equal.high
    assert equal.verdict == "no difference shown"


def test_a_wider_gap_at_equal_training_loss_is_found_with_its_size(tmp_path):
    leave_study(tmp_path, offset=0.01)

    equal = rows_of(tmp_path)["gap", "best", "mean over equal losses"]

    assert equal.low < 0.01 < equal.high
    assert equal.verdict == "higher"


def test_the_common_losses_lie_between_what_all_runs_reached_and_the_gap_there_is_the_known_one(tmp_path):
    leave_study(tmp_path, offset=0.0, seeds=(1, 2))

    rows = [row for row in analyse.compared(analyse.groups_of(tmp_path)) if row.at == analyse.EQUAL_LOSS]

    losses = sorted({row.train_loss for row in rows})
    assert losses[0] == pytest.approx(math.exp(-0.8))  # the last epoch of the slower one
    assert losses[-1] == pytest.approx(math.exp(-0.3))  # the first epoch of the faster one
    for row in rows:
        if row.measure == "gap":
            assert row.mean_b == pytest.approx(0.02 - 0.02 * math.log(row.train_loss), abs=0.002)


def test_without_a_training_loss_that_both_reached_nothing_is_compared_at_equal_loss(tmp_path):
    for seed in (1, 2):
        leave_curve(tmp_path, {"optim": "sgd", "seed": seed}, speed=0.01, offset=0)
        leave_curve(tmp_path, {"optim": "adam", "seed": seed}, speed=1, offset=0)

    assert {at for _, _, at in rows_of(tmp_path)} == {"best epoch", "last epoch"}


def test_a_gap_that_opens_where_the_slowest_optimizer_never_gets_is_found_at_the_lowest_loss_of_the_pair(tmp_path):
    rng = np.random.default_rng(5)
    opens = 0.01 * (np.arange(EPOCHS) >= 4)  # at losses below exp(-0.3 x 4); those of SGD end at exp(-0.8)
    for seed in (1, 2, 3, 4, 5):
        for optim, speed, offset in (("sgd", 0.1, 0.0), ("adam", 0.3, 0.0), ("adamw", 0.3, opens)):
            noise = 0.0005 * rng.normal()
            leave_curve(tmp_path, {"optim": optim, "seed": seed}, speed=speed, offset=offset, noise=noise)

    rows = {
        (row.b, row.at): row
        for row in analyse.compared(analyse.groups_of(tmp_path))
        if (row.a, row.measure) == ("adam", "gap")
    }

    lowest = rows["adamw", "lowest equal loss"]
    assert rows["adamw", "mean over equal losses"].verdict == "no difference shown"
    assert lowest.train_loss == pytest.approx(np.exp(-0.3 * 8))
    assert (lowest.difference, lowest.verdict) == (pytest.approx(-0.01, abs=0.001), "lower")
    assert rows["sgd", "lowest equal loss"].train_loss == pytest.approx(np.exp(-0.1 * 8))


def test_intervals_are_those_of_a_paired_t_test(tmp_path):
    leave_study(tmp_path, offset=0.004)

    row = rows_of(tmp_path)["gap", "best", "last epoch"]

    gaps = {}
    for folder in tmp_path.iterdir():
        with (folder / record.HISTORY).open() as file:
            last = list(csv.DictReader(file))[-1]
        gap = float(last["train_eval_accuracy"]) - float(last["val_accuracy"])
        gaps[folder.name] = gap
    pairs = [[gaps[f"optim={optim},seed={seed}"] for seed in range(1, 6)] for optim in ("adam", "sgd")]
    expected = stats.ttest_rel(*pairs)
    low, high = expected.confidence_interval(0.95)
    assert (row.low, row.high) == pytest.approx((low, high))
    assert row.p_value == pytest.approx(expected.pvalue)


def test_the_best_rate_is_the_chosen_one_and_the_default_is_lr_scale_1(tmp_path):
    for seed in (1, 2, 3):
        for optim in ("sgd", "adam"):
            for lr_scale, offset in ((0.3, 0.02), (1, 0.01), (3, 0.0), (10, 0.02)):
                typed = {"optim": optim, "lr_scale": lr_scale, "seed": seed}
                leave_curve(tmp_path, typed, speed=0.2, offset=offset)
    (tmp_path / "study.yaml").write_text("compared: [optim]\ntuned: [lr_scale]\n")

    rows = rows_of(tmp_path)

    assert rows["gap", "best", "last epoch"].lr_a == pytest.approx(0.003)
    default = rows["gap", "default", "last epoch"]
    assert default.lr_a == pytest.approx(0.001)
    assert default.mean_a - rows["gap", "best", "last epoch"].mean_a == pytest.approx(0.01)


def test_a_best_rate_at_an_edge_of_the_grid_gets_no_verdict(tmp_path):
    for seed in (1, 2, 3):
        for optim in ("sgd", "adam"):
            for lr_scale, offset in ((1, 0.02), (3, 0.01), (10, 0.1 if optim == "sgd" else 0.0)):
                leave_curve(tmp_path, {"optim": optim, "lr_scale": lr_scale, "seed": seed}, speed=0.2, offset=offset)
    (tmp_path / "study.yaml").write_text("compared: [optim]\ntuned: [lr_scale]\n")

    assert rows_of(tmp_path)["gap", "best", "last epoch"].verdict == "not tuned"


def test_default_rates_may_come_from_a_study_of_their_own_with_more_seeds(tmp_path):
    leave_study(tmp_path / "tuned", offset=0.0, seeds=(1, 2))
    leave_study(tmp_path / "defaults", offset=0.03, seeds=(3, 4, 5, 6))

    groups = analyse.groups_of(tmp_path / "tuned", tmp_path / "defaults")

    rows = {row.rate: row for row in analyse.compared(groups) if (row.measure, row.at) == ("gap", "last epoch")}
    assert (rows["best"].num_seeds, rows["default"].num_seeds) == (2, 4)
    assert rows["default"].difference - rows["best"].difference == pytest.approx(0.03, abs=0.003)


def test_a_study_of_default_rates_with_another_rate_is_refused(tmp_path):
    leave_study(tmp_path / "tuned", offset=0.0, seeds=(1, 2))
    for optim in ("sgd", "adam"):
        leave_curve(tmp_path / "other", {"optim": optim, "lr_scale": 3, "seed": 1}, speed=0.1, offset=0)

    with pytest.raises(UserError, match="lr_scale is not 1"):
        analyse.groups_of(tmp_path / "tuned", tmp_path / "other")


def test_a_loss_that_rises_again_is_reached_where_it_was_reached_first():
    curve = analyse.Curve(np.array([1.0, 0.5, 0.8, 0.25]), {"gap": np.array([0.0, 0.1, 0.9, 0.2])}, 0)

    assert curve.at_loss("gap", 0.75) == pytest.approx(0.05)
    assert curve.at_loss("gap", 0.5) == pytest.approx(0.1)


def test_runs_without_averages_beside_runs_with_them_are_refused(tmp_path):
    leave_study(tmp_path, offset=0.0, seeds=(1, 2))
    leave_curve(tmp_path, {"optim": "sgd", "seed": 3}, speed=0.1, offset=0, with_averages=False)

    with pytest.raises(UserError, match=r"optim=sgd,seed=3 has no averages\.csv"):
        analyse.compared(analyse.groups_of(tmp_path))


def test_without_averages_the_loss_seen_while_training_is_taken_and_named(tmp_path):
    leave_study(tmp_path, offset=0.0, seeds=(1, 2), with_averages=False)

    rows = analyse.compared(analyse.groups_of(tmp_path))

    assert {row.loss_of for row in rows} == {"running mean while training"}
    assert max(row.train_loss for row in rows if row.train_loss) == pytest.approx(3.0)


def test_seeds_that_agree_by_chance_leave_the_uncertainty_of_one_image():
    assert analyse.Difference((0.01, 0.01, 0.01), 0.001).error == pytest.approx(0.001 / math.sqrt(3))


def test_the_command_writes_a_table_and_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "DPI", 40)
    leave_study(tmp_path / "study", offset=0.01)

    analyse.main([str(tmp_path / "study"), str(tmp_path / "out")])

    with (tmp_path / "out" / "gaps.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows if row["at"] == "equal loss" and row["measure"] == "gap"} == {"higher"}
    assert (tmp_path / "out" / "gaps.png").read_bytes().startswith(b"\x89PNG")
    assert "best rates, mean over equal losses: gap of adam minus that of sgd +1." in capsys.readouterr().out
