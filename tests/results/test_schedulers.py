"""Gains of schedulers over a constant rate: simulated studies with known accuracies."""

import csv
import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from intel_scenes.errors import UserError
from intel_scenes.studies.comparison import compare
from results import plots
from results.schedulers import analyse
from tests.studies.simulated_records import leave_run

NUM_IMAGES = 1000
GAINS = {("sgd", "cosine"): 0.06, ("sgd", "step"): 0.0, ("adamw", "cosine"): 0.01, ("adamw", "step"): 0.0}


def leave_study(study, gains, *, seeds=(1, 2, 3, 4), rng=0, typed=None):
    """Write runs that add known shares of correct images to a constant rate's; each seed flips one image in fifty."""
    generator = np.random.default_rng(rng)
    base = generator.permutation(NUM_IMAGES) < 0.8 * NUM_IMAGES
    tables = {}
    optims, schedulers = ({key[index] for key in gains} for index in (0, 1))
    for optim, scheduler in itertools.product(sorted(optims), sorted(schedulers | {"constant"})):
        wrong = np.flatnonzero(~base)
        improved = base.copy()
        improved[wrong[: round(gains.get((optim, scheduler), 0.0) * NUM_IMAGES)]] = True
        for seed in seeds:
            right = improved ^ (generator.random(NUM_IMAGES) < 0.02)
            keys = {"optim": optim, "scheduler": scheduler, **(typed or {}), "seed": seed}
            name = ",".join(f"{key}={value}" for key, value in keys.items())
            leave_run(study, name, keys, right, optim=optim, scheduler=scheduler)
            tables[optim, scheduler, seed] = right
    return tables


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedulers")
    return folder, leave_study(folder, GAINS)


def rows_of(folder):
    return {(row.what, row.optim, row.scheduler): row for row in analyse.rows_of(compare(folder))}


def test_each_gain_is_the_difference_in_test_accuracy_from_the_constant_rate_of_the_same_optimizer(study):
    folder, tables = study

    rows = rows_of(folder)

    for (optim, scheduler), true in GAINS.items():
        row = rows["gain", optim, scheduler]
        means = [np.mean([tables[optim, name, seed] for seed in (1, 2, 3, 4)]) for name in (scheduler, "constant")]
        assert row.value == pytest.approx(means[0] - means[1])
        assert (row.accuracy, row.constant_accuracy) == pytest.approx(means)
        assert row.low < 0.96 * true < row.high  # flips take 4 % of what they hit: (1 - 2 x 0.02) of a gain is left
    assert rows["gain", "sgd", "cosine"].verdict == "better"
    assert rows["gain", "sgd", "step"].verdict in ("no difference shown", "practically equal")


def test_the_difference_in_gains_is_found_where_there_is_one_and_only_there(study):
    folder, _ = study

    rows = rows_of(folder)

    cosine, step = (rows["difference in gains", "sgd", name] for name in ("cosine", "step"))
    gains = [rows["gain", optim, "cosine"].value for optim in ("sgd", "adamw")]
    assert cosine.value == pytest.approx(gains[0] - gains[1])
    assert cosine.against == "adamw"
    assert cosine.low < 0.96 * 0.05 < cosine.high
    assert cosine.verdict == "better"
    assert step.low < 0 < step.high
    assert step.verdict != "better"


def test_the_interval_of_a_difference_in_gains_covers_both_images_and_seeds(study):
    folder, tables = study

    row = rows_of(folder)["difference in gains", "sgd", "cosine"]

    def gain(optim):
        return np.array([tables[optim, "cosine", s].astype(int) - tables[optim, "constant", s] for s in (1, 2, 3, 4)])

    contrast = gain("sgd") - gain("adamw")  # (seeds, images)
    over_images = stats.sem(contrast.mean(axis=0))  # seeds do not differ beyond their images here
    assert (row.high - row.low) / (2 * 1.96 * over_images) == pytest.approx(1, abs=0.35)


def test_adjustment_is_holms_within_the_gains_and_within_the_differences(study):
    folder, _ = study

    rows = analyse.rows_of(compare(folder))

    for what, size in (("gain", 4), ("difference in gains", 2)):
        family = [row for row in rows if row.what == what]
        assert len(family) == size
        adjusted = multipletests([row.p_value for row in family], method="holm")[1]
        assert [row.p_holm for row in family] == pytest.approx(list(adjusted))
        for row in family:
            excludes_0 = not row.low_holm <= 0 <= row.high_holm
            assert excludes_0 == (row.verdict in ("better", "worse"))


def test_a_best_rate_at_an_edge_gets_no_verdict(tmp_path):
    gains = {("sgd", "cosine"): 0.06, ("adamw", "cosine"): 0.01}
    for lr_scale, lost in ((1, 0.04), (3, 0.02), (10, 0.0)):
        better = {key: value - lost + 0.04 for key, value in gains.items()}
        constant = {(optim, "constant"): 0.04 - lost for optim in ("sgd", "adamw")}
        leave_study(tmp_path, better | constant, seeds=(1, 2), typed={"lr_scale": lr_scale})
    (tmp_path / "study.yaml").write_text("compared: [optim, scheduler]\ntuned: [lr_scale]\n")

    rows = rows_of(tmp_path)

    assert {row.verdict for row in rows.values()} == {"not tuned"}
    assert rows["gain", "sgd", "cosine"].lr_scale == "10 10"


def test_one_seed_is_untestable(tmp_path):
    leave_study(tmp_path, GAINS, seeds=(1,))

    rows = rows_of(tmp_path)

    assert {row.verdict for row in rows.values()} == {"untestable"}
    assert rows["gain", "sgd", "cosine"].value == pytest.approx(0.06, abs=0.02)
    assert all(math.isfinite(row.value) for row in rows.values())


def test_a_study_without_a_constant_rate_or_with_other_factors_is_refused(tmp_path):
    leave_study(tmp_path / "other", {("sgd", "cosine"): 0.0}, seeds=(1,))
    with pytest.raises(UserError, match="compares scheduler: sweep optim and scheduler"):
        analyse.rows_of(compare(tmp_path / "other"))

    leave_study(tmp_path / "without", GAINS, seeds=(1,))
    for folder in (tmp_path / "without").glob("*constant*"):
        folder.rename(tmp_path / folder.name)
    with pytest.raises(UserError, match="has no run with scheduler=constant: add it"):
        analyse.rows_of(compare(tmp_path / "without"))


def test_the_command_writes_a_table_and_a_picture(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plots, "DPI", 40)

    analyse.main([str(study[0]), str(tmp_path)])

    with (tmp_path / "gains.csv").open() as file:
        assert [row["what"] for row in csv.DictReader(file)] == ["gain"] * 4 + ["difference in gains"] * 2
    assert (tmp_path / "gains.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "sgd, cosine minus constant: +" in printed
    assert "optim x scheduler, test_accuracy: F(" in printed
