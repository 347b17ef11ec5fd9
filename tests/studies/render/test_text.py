import csv
import json

import numpy as np
import pytest
import yaml
from scipy import integrate, stats
from statsmodels.stats.multitest import multipletests

from intel_scenes.config import CompareConfig
from intel_scenes.errors import UserError
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.csv_files import PAIRWISE_COLUMNS
from intel_scenes.studies.render.tables import leaderboard
from tests.studies.simulated_records import leave_run, leave_study

OPTIONS = CompareConfig(baseline=None, rope=0.5)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_results_have_a_row_for_each_run_with_its_overrides_and_its_whole_summary(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 1}, 2)
    failed = {"status": "failed", "error": "e", "traceback": "a\nb", "config_digest": None}
    leave_run(tmp_path, "failed", {"optim": "sgd", "seed": 3, "lr_scale": 3}, np.ones(6, bool), **failed)
    compare_and_write(tmp_path, OPTIONS)
    by_run = {row["run"]: row for row in rows(tmp_path / "results.csv")}
    assert len(by_run) == 5
    assert by_run["failed"]["override.lr_scale"] == "3"
    assert by_run["failed"]["traceback"] == "a\\nb"
    summary = json.loads((tmp_path / "optim=adam,seed=2/summary.json").read_text())
    assert float(by_run["optim=adam,seed=2"]["val_accuracy"]) == summary["val_accuracy"]
    assert by_run["optim=adam,seed=2"]["versions.torch"] == "2.14.1"
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 6


def test_pairwise_has_a_row_for_each_pair_adjusted_by_holm(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 2, "adamw": 0.3, "nadam": 0}, 3)
    compare_and_write(tmp_path, OPTIONS)
    pairs = rows(tmp_path / "pairwise.csv")
    assert tuple(pairs[0]) == PAIRWISE_COLUMNS
    assert len(pairs) == 6
    adjusted = multipletests([float(row["p_value"]) for row in pairs], method="holm")[1]
    assert [float(row["p_holm"]) for row in pairs] == pytest.approx(adjusted)
    for row in pairs:
        low, high, low_holm, high_holm = (float(row[key]) for key in ("low", "high", "low_holm", "high_holm"))
        assert low_holm <= low <= float(row["difference"]) <= high <= high_holm
        assert (row["verdict"] == "better") == (low_holm > 0)
        assert (row["metric"], row["num_seeds_a"], row["paired"]) == ("test_accuracy", "3", "True")
    assert {row["verdict"] for row in pairs if "adam" in (row["a"], row["b"])} == {"better"}


def test_the_standard_error_of_a_pair_is_that_of_the_documented_formula(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 2}, 3)
    compare_and_write(tmp_path, OPTIONS)
    (pair,) = rows(tmp_path / "pairwise.csv")
    correct = {
        arm: np.array(
            [
                [row["label"] == row["predicted"] for row in rows(path) if row["split"] == "test"]
                for path in sorted(tmp_path.glob(f"optim={arm},seed=*/predictions.csv"))
            ],
            float,
        )
        for arm in ("sgd", "adam")
    }
    y = correct[pair["a"]] - correct[pair["b"]]
    (num_seeds, n), seeds, images = y.shape, y.mean(axis=1), y.mean(axis=0)
    degrees = num_seeds - 1
    ms_seed = n * seeds.var(ddof=1)
    ms_rest = ((y - seeds[:, None] - images + y.mean()) ** 2).sum() / (degrees * (n - 1))
    known = max(0, images.var(ddof=1) - ms_rest / num_seeds)

    def integral(power):  # of docs/statistics.md, to all digits
        def integrand(u):
            t = ms_rest / num_seeds + u ** (1 / 0.6)
            return t ** (-degrees / 2 - 0.6) * np.exp(-degrees * ms_seed / num_seeds / (2 * t)) / (known + t) ** power

        return integrate.quad(integrand, 0, np.inf, limit=500)[0]

    precision = integral(1) / integral(0)
    cv2 = integral(2) / integral(0) / precision**2 - 1 + 2 * (known * precision) ** 2 / (n - 1)
    error, freedom = float(pair["standard_error"]), float(pair["degrees_of_freedom"])
    assert error == pytest.approx(1 / np.sqrt(precision * n), rel=1e-3)
    assert freedom == pytest.approx(2 / cv2, rel=1e-2)
    half = stats.t.ppf(0.975, freedom) * error
    assert float(pair["low"]) == pytest.approx(float(pair["difference"]) - half)
    assert float(pair["high"]) == pytest.approx(float(pair["difference"]) + half)


def test_reading_a_folder_twice_gives_the_same_bytes(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 1}, 2)
    names = ("results.csv", "pairwise.csv", "report.html")
    printed = compare_and_write(tmp_path, OPTIONS)
    first = [(tmp_path / name).read_bytes() for name in names]
    assert compare_and_write(tmp_path, OPTIONS) == printed
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_the_leaderboard_has_the_factors_that_vary_and_orders_by_validation(tmp_path):
    tables = leave_study(tmp_path, {"sgd": 0, "adam": 2}, 3)
    names, first, second = leaderboard(compare(tmp_path))
    assert names[:6] == ["optim", "val %", "test %", "95 % CI", "against the leader", "seeds"]
    assert [first[0], first[4], second[0], second[4]] == ["adam", "the leader", "sgd", "worse"]
    by_seed = 100 * tables["adam"].mean(axis=1)
    assert first[1] == f"{by_seed.mean():.1f} ± {by_seed.std(ddof=1):.1f}"
    assert first[2] == f"{by_seed.mean():.1f}"


def test_the_answer_names_the_leader_and_the_verdicts_on_the_others(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 2}, 3)
    first, second, third = answer(compare(tmp_path))
    assert first.startswith("adam has the best validation accuracy: ")
    assert "(95 % CI " in first
    assert second.startswith("Significantly worse than adam: sgd (-")
    assert third == (
        "Note that the order of the optimizers may come from learning rates that were not tuned (adam, sgd: 0.1): "
        "study=optimizers tunes them."
    )
    leave_study(tmp_path / "one", {"sgd": 0}, 1)
    (first,) = answer(compare(tmp_path / "one"))
    assert "over test images alone" in first
    leave_study(tmp_path / "two", {"sgd": 0, "adam": 0}, 1)
    first, second, _ = answer(compare(tmp_path / "two"))
    assert "with one seed, the bias from choosing the best arm is unknown" in first
    assert second.startswith("Cannot be distinguished from adam with one seed (seed=1,2,3 runs three): ")


def test_other_formats_hold_the_same_table(tmp_path):
    leave_study(tmp_path, {"a_b": 0, "c|d": 1}, 2)
    answered, table, *_ = compare_and_write(tmp_path, OPTIONS, form="markdown").split("\n\n")
    assert answered.startswith("c|d has the best validation accuracy")
    assert table.splitlines()[1].startswith("| --- |")
    assert "| c\\|d |" in table.splitlines()[2]
    latex = compare_and_write(tmp_path, OPTIONS, form="latex")
    assert "a\\_b & " in latex
    assert "\\%" in latex
    content = json.loads(compare_and_write(tmp_path, OPTIONS, form="json"))
    assert [one["optim"] for one in content["configurations"]] == ["c|d", "a_b"]
    with pytest.raises(UserError, match="unknown format=html: choose one of table, markdown, latex, json"):
        compare_and_write(tmp_path, OPTIONS, form="html")


def leave_rates(study, best, *, optims=("sgd",), scales=(0.3, 1, 3, 10, 30), tied=None, lr=0.0003, shared=None):
    """Write a grid of learning rates with two seeds each; validation prefers the rate `best`."""
    (study / "study.yaml").write_text(yaml.safe_dump({"compared": ["optim"], "tuned": ["lr_scale"]}))
    for optim in optims:
        for scale in scales:
            for seed in (1, 2):
                val = 0.842 if scale in (best, tied) else 0.7
                typed = {"optim": optim, "lr_scale": scale, "seed": seed} | (shared or {})
                right = np.random.default_rng(seed).random(120) < 0.8
                summary = {"val_accuracy": val, "lr": lr and lr * scale, "optim": optim}
                leave_run(study, f"{optim}{scale}-{seed}", typed, right, **summary)


@pytest.mark.parametrize(
    ("best", "options", "expected"),
    [
        (3, {}, "Best learning rate: 0.0009 (lr_scale=3); set optim.lr=0.0009."),
        (3, {"lr": None}, "Best learning rate: lr_scale=3; set lr_scale=3."),
        (3, {"tied": 1}, "Best learning rate: 0.0003 (lr_scale=1), tied with lr_scale=3; set optim.lr=0.0003."),
        (
            30,
            {},
            "Best learning rate: 0.009 (lr_scale=30); add lr_scale=100: the best value is at the edge of the grid.",
        ),
        (
            0.3,
            {},
            "Best learning rate: 9e-05 (lr_scale=0.3); add lr_scale=0.1: the best value is at the edge of the grid.",
        ),
        (
            4,
            {"scales": (1, 2, 4)},
            "Best learning rate: 0.0012 (lr_scale=4); add lr_scale=8: the best value is at the edge of the grid.",
        ),
        (
            3,
            {"shared": {"lr_scaling": "linear"}},
            "Best learning rate: 0.0009 (lr_scale=3); set optim.lr=0.0009 lr_scaling=none.",
        ),
    ],
)
def test_a_search_for_the_rate_ends_with_the_best_one(tmp_path, best, options, expected):
    leave_rates(tmp_path, best, **options)
    first, second = answer(compare(tmp_path))
    assert first == expected
    assert second.startswith(
        "Validation accuracy 84.2 % (84.2 % with the choice made on the other seeds). Test accuracy "
    )
    assert "all runs" not in compare_and_write(tmp_path, OPTIONS)
    assert expected in (tmp_path / "report.html").read_text()
    assert expected in json.loads(compare_and_write(tmp_path, OPTIONS, form="json"))["answer"]


@pytest.mark.parametrize(
    ("best", "searched", "expected"),
    [
        (0.003, None, "Best learning rate: 0.003; set optim.lr=0.003."),
        (0.01, None, "Best learning rate: 0.01; add optim.lr=0.03: the best value is at the edge of the grid."),
        (
            0.003,
            [0.0001, 0.003, 1],
            "Best learning rate: 0.003; widen the interval 0.0001 to 0.003: the best value is at its edge.",
        ),
    ],
)
def test_a_rate_that_was_set_directly_needs_no_scale(tmp_path, best, searched, expected):
    plan = {"tuned": ["optim.lr"]} | ({"searched": {"optim.lr": searched}} if searched else {})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    for rate in (0.0003, 0.001, 0.003, 0.01):
        typed, val = {"optim.lr": rate, "seed": 1}, 0.9 if rate == best else 0.8
        leave_run(tmp_path, str(rate), typed, np.arange(120) > 20, val_accuracy=val, lr=rate)
    assert answer(compare(tmp_path))[0] == expected


def test_each_arm_has_a_best_rate_of_its_own(tmp_path):
    leave_rates(tmp_path, 3, optims=("sgd",), scales=(1, 3, 10), lr=0.01)
    leave_rates(tmp_path, 10, optims=("adamw",), scales=(1, 3, 10), lr=0.0003)
    last = answer(compare(tmp_path))[-1]
    rates = (
        "adamw optim.lr=0.003 (lr_scale=10), at the edge of the grid: add lr_scale=30",
        "sgd optim.lr=0.03 (lr_scale=3)",
    )
    assert last == f"Best learning rate: {'; '.join(rates)}."


def test_factors_tuned_beside_the_rate_are_named_with_it(tmp_path):
    plan = {"tuned": ["optim.lr", "optim.momentum"], "searched": {"optim.lr": [0.001, 0.1, 1]}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    for number, (rate, momentum) in enumerate(((0.00119, 0.8), (0.03, 0.9), (0.01, 0.95))):
        typed = {"optim.lr": rate, "optim.momentum": momentum}
        leave_run(tmp_path, str(number), typed, np.arange(120) > 20, val_accuracy=0.9 - number / 10, lr=rate)
    assert answer(compare(tmp_path))[0] == (
        "Best learning rate: optim.lr=0.00119 (optim.momentum=0.8), optim.lr at the edge of the searched interval "
        "0.001 to 0.1: widen it, optim.momentum at the edge of the grid."
    )
