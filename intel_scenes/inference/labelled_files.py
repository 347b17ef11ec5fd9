"""Output files of an evaluation on a labelled folder: metrics, tables and figures."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from intel_scenes import files
from intel_scenes.inference.labelled import ClassScores, FolderEvaluation, FolderScores
from intel_scenes.inference.paired import PairedDifference
from intel_scenes.inference.reliability import Bin, draw_reliability, reliability
from intel_scenes.probabilities import at_temperature
from intel_scenes.record import Predictions
from intel_scenes.training.confusion import render_confusion

METRICS, PAIRS = "metrics.json", "pairs.csv"
WHOLE = "all"  # value of the column `split` in predictions.csv for a folder without splits


def write_evaluation(evaluation: FolderEvaluation, output: Path) -> None:
    """Write `metrics.json`, and predictions, tables and figures of each run and of their mean.

    For one run the files are in the folder itself; for several in `run1`, `run2`, ... and `mean`, beside `pairs.csv`.

    Args:
        evaluation: Evaluation of one or several runs.
        output: Folder to write to; created if missing.

    Raises:
        OSError: The folder cannot be written.
    """
    subfolders = [output / name for name in subfolders_of(evaluation)]
    for subfolder, row, predictions in zip(subfolders, evaluation.rows, evaluation.predictions, strict=True):
        _write_row(evaluation, row, predictions, subfolder)
    if evaluation.pairs:
        columns = [field.name for field in fields(PairedDifference) if field.name != "interval"]
        rows = [(*(getattr(pair, name) for name in columns), *pair.interval) for pair in evaluation.pairs]
        files.write_csv(output / PAIRS, (*columns, "interval_low", "interval_high"), rows)
    files.write_whole(output / METRICS, (json.dumps(as_plain(evaluation), indent=2) + "\n").encode())


def subfolders_of(evaluation: FolderEvaluation) -> list[str]:
    """Return the folder of each row, relative to the output folder."""
    num_runs = len(evaluation.rows) - 1
    return [f"run{number + 1}" for number in range(num_runs)] + ["mean"] if num_runs else ["."]


def as_plain(evaluation: FolderEvaluation) -> dict[str, Any]:
    """Return an evaluation as plain values for JSON, without the predictions, which have a file of their own."""
    plain = asdict(replace(evaluation, predictions=()))
    del plain["predictions"]
    return plain | {"folder": str(evaluation.folder)}


def _write_row(evaluation: FolderEvaluation, row: FolderScores, predictions: Predictions, folder: Path) -> None:
    classes = evaluation.classes
    Predictions.write(folder, classes, {evaluation.split or WHOLE: predictions})
    columns = [field.name for field in fields(ClassScores)]
    files.write_csv(folder / "classes.csv", columns, [[getattr(one, name) for name in columns] for one in row.classes])
    counts = [(name, *class_counts) for name, class_counts in zip(classes, row.confusion, strict=True)]
    files.write_csv(folder / "confusion.csv", ("true", *classes), counts)
    title = f"{evaluation.split or 'all'} images of {evaluation.folder.name}"
    files.write_whole(folder / "confusion.png", render_confusion(row.confusion, classes, title))
    bins = {"predicted": reliability(predictions.probabilities, predictions.labels)}
    if row.temperature is not None:
        calibrated = at_temperature(predictions.probabilities, row.temperature)
        bins["calibrated"] = reliability(calibrated, predictions.labels)
    columns = [field.name for field in fields(Bin) if field.name != "interval"]
    rows = [
        (kind, *(getattr(bin_, name) for name in columns), *(bin_.interval or (None, None)))
        for kind, bins_of_kind in bins.items()
        for bin_ in bins_of_kind
    ]
    files.write_csv(folder / "reliability.csv", ("kind", *columns, "interval_low", "interval_high"), rows)
    files.write_whole(folder / "reliability.png", draw_reliability(bins["predicted"], bins.get("calibrated")))
