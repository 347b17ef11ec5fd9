import csv
from statistics import mean, stdev

from intel_scenes.studies.collect import Run
from intel_scenes.studies.report import choices, table, write_results


def run(optim, seed, accuracy, status="completed", **typed):
    summary = {
        "status": status,
        "configuration_digest": f"{optim} {typed}",
        "val_accuracy": accuracy,
        "test_accuracy": accuracy - 0.01,
        "train_accuracy": accuracy + 0.05,
        "fit_seconds": 90.0,
        "classes": ["a", "b"],
        "normalization": {"mean": [0.5]},
    }
    return Run(f"{optim}-{seed}-{accuracy}", {"optim": optim, "seed": str(seed), **typed}, summary)


def test_a_table_has_a_line_for_each_configuration_best_validation_first():
    runs = [run("sgd", 1, 0.80), run("sgd", 2, 0.90), run("adam", 1, 0.95), run("adam", 2, 0.1, status="failed")]
    header, first, second = table(runs).splitlines()
    assert header.split() == ["optim", "seeds", "valid", "%", "test", "%", "gap", "minutes"]
    assert first.split() == ["adam", "1", "95.0", "94.0", "+5.0", "1.5"]
    values = (80.0, 90.0)
    assert second.split()[:5] == ["sgd", "2", f"{mean(values):.1f}", "±", f"{stdev(values):.1f}"]


def test_results_have_a_row_for_each_run_with_what_was_typed_and_all_of_its_summary(tmp_path):
    write_results(tmp_path, [run("sgd", 1, 0.8), run("adam", 2, 0.9, lr_scale="3")])
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["override.lr_scale"] for row in rows] == ["", "3"]
    assert [float(row["val_accuracy"]) for row in rows] == [0.8, 0.9]
    assert (rows[0]["normalization.mean"], rows[0]["classes"]) == ("[0.5]", '["a", "b"]')
    assert list(rows[0])[-1] == "run"


def test_validation_chooses_tuned_values_and_an_edge_of_the_grid_is_named():
    runs = [
        *(
            run("sgd", seed, accuracy, lr_scale=scale)
            for seed in (1, 2)
            for scale, accuracy in grid("0.5", "0.7", "0.9")
        ),
        *(
            run("adam", seed, accuracy, lr_scale=scale)
            for seed in (1, 2)
            for scale, accuracy in grid("0.5", "0.7", "0.6")
        ),
    ]
    adam, sgd = choices(runs, ["lr_scale"])
    assert adam == "optim=adam: lr_scale=1 of 3, valid 70.0%"
    assert sgd == "optim=sgd: lr_scale=10 of 3, valid 90.0%; lr_scale=10 lies at the edge of the grid: widen it"


def grid(*accuracies):
    return zip(("0.1", "1", "10"), map(float, accuracies), strict=True)
