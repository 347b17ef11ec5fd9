import csv
import json

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from intel_scenes.errors import UserError
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.report import PAIRWISE_COLUMNS, answer, leaderboard
from tests.studies.made import leave_run, leave_study


class Options:
    baseline = None
    rope = 0.5


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_results_have_a_row_for_each_run_with_what_was_typed_and_all_of_its_summary(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 1}, 2)
    failed = {"status": "failed", "error": "e", "traceback": "a\nb", "config_digest": None}
    leave_run(tmp_path, "failed", {"optim": "sgd", "seed": 3, "lr_scale": 3}, np.ones(6, bool), **failed)
    compare_and_write(tmp_path, Options())
    found = {row["run"]: row for row in rows(tmp_path / "results.csv")}
    assert len(found) == 5
    assert found["failed"]["override.lr_scale"] == "3"
    assert found["failed"]["traceback"] == "a\\nb"
    summary = json.loads((tmp_path / "optim=adam,seed=2/summary.json").read_text())
    assert float(found["optim=adam,seed=2"]["val_accuracy"]) == summary["val_accuracy"]
    assert found["optim=adam,seed=2"]["versions.torch"] == "2.14.1"
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 6


def test_pairwise_has_a_row_for_each_pair_adjusted_by_holm(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 2, "adamw": 0.3, "nadam": 0}, 3)
    compare_and_write(tmp_path, Options())
    found = rows(tmp_path / "pairwise.csv")
    assert tuple(found[0]) == PAIRWISE_COLUMNS
    assert len(found) == 6
    adjusted = multipletests([float(row["p_value"]) for row in found], method="holm")[1]
    assert [float(row["p_holm"]) for row in found] == pytest.approx(adjusted)
    for row in found:
        low, high, low_holm, high_holm = (float(row[key]) for key in ("low", "high", "low_holm", "high_holm"))
        assert low_holm <= low <= float(row["difference"]) <= high <= high_holm
        assert (row["verdict"] == "better") == (low_holm > 0)
        assert (row["metric"], row["num_seeds_a"], row["paired"]) == ("test_accuracy", "3", "True")
    assert {row["verdict"] for row in found if "adam" in (row["a"], row["b"])} == {"better"}


def test_reading_a_folder_twice_gives_the_same_bytes(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 1}, 2)
    names = ("results.csv", "pairwise.csv", "report.html")
    said = compare_and_write(tmp_path, Options())
    first = [(tmp_path / name).read_bytes() for name in names]
    assert compare_and_write(tmp_path, Options()) == said
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_the_leaderboard_has_the_factors_that_vary_and_orders_by_validation(tmp_path):
    tables = leave_study(tmp_path, {"sgd": 0, "adam": 2}, 3)
    names, first, second = leaderboard(compare(tmp_path))
    assert names[:5] == ["optim", "seeds", "valid %", "test %", "test interval"]
    assert [first[0], first[-1], second[0], second[-1]] == ["adam", "the leader", "sgd", "worse"]
    by_seed = 100 * tables["adam"].mean(axis=1)
    assert first[2] == f"{by_seed.mean():.1f} ± {by_seed.std(ddof=1):.1f}"
    assert first[3] == f"{by_seed.mean():.1f}"


def test_the_answer_says_who_leads_and_what_can_be_said_of_the_others(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 2}, 3)
    first, second = answer(compare(tmp_path))
    assert first.startswith("adam leads on validation")
    assert "95 % interval over seeds and images" in first
    assert "sgd is shown to be worse than it (-" in second
    leave_study(tmp_path / "one", {"sgd": 0}, 1)
    first, second = answer(compare(tmp_path / "one"))
    assert "over images alone" in first
    assert "nothing to compare it with" in second
    leave_study(tmp_path / "two", {"sgd": 0, "adam": 0}, 1)
    first, second = answer(compare(tmp_path / "two"))
    assert "cannot be estimated from one seed" in first
    assert "is not to be told from it with one seed" in second


def test_other_formats_hold_the_same_table(tmp_path):
    leave_study(tmp_path, {"a_b": 0, "c|d": 1}, 2)
    markdown = compare_and_write(tmp_path, Options(), form="markdown").splitlines()
    assert markdown[1].startswith("| --- |")
    assert "| c\\|d |" in markdown[2]
    latex = compare_and_write(tmp_path, Options(), form="latex")
    assert "a\\_b & 2 &" in latex
    assert "\\%" in latex
    found = json.loads(compare_and_write(tmp_path, Options(), form="json"))
    assert [one["optim"] for one in found["configurations"]] == ["c|d", "a_b"]
    with pytest.raises(UserError, match="format=html: there are table, markdown, latex, json"):
        compare_and_write(tmp_path, Options(), form="html")
