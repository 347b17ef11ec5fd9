"""What an evaluation on a labelled folder leaves: numbers, tables and pictures."""

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
WHOLE = "all"  # what predictions.csv calls the split of a folder that has none


def write_evaluation(evaluation: FolderEvaluation, output: Path) -> None:
    """Writes `metrics.json`, and of each run and their mean its predictions, tables and pictures.

    Of one run they lie in the folder itself; of several in `run1`, `run2` and `mean`, with `pairs.csv` beside them.

    Args:
        evaluation: Of one run or several.
        output: The folder, which is made.

    Raises:
        OSError: It cannot be written.
    """
    places = [output / name for name in names_of(evaluation)]
    for place, row, predictions in zip(places, evaluation.rows, evaluation.predictions, strict=True):
        _write_row(evaluation, row, predictions, place)
    if evaluation.pairs:
        columns = [one.name for one in fields(PairedDifference) if one.name != "interval"]
        rows = [(*(getattr(pair, name) for name in columns), *pair.interval) for pair in evaluation.pairs]
        files.write_csv(output / PAIRS, (*columns, "interval_low", "interval_high"), rows)
    files.write_whole(output / METRICS, (json.dumps(as_plain(evaluation), indent=2) + "\n").encode())


def names_of(evaluation: FolderEvaluation) -> list[str]:
    """The folder of each row below the output; of a single run the output itself."""
    num_runs = len(evaluation.rows) - 1
    return [f"run{number + 1}" for number in range(num_runs)] + ["mean"] if num_runs else ["."]


def as_plain(evaluation: FolderEvaluation) -> dict[str, Any]:
    """An evaluation as JSON holds it, without the predictions, which have a table of their own."""
    plain = asdict(replace(evaluation, predictions=()))
    del plain["predictions"]
    return plain | {"folder": str(evaluation.folder)}


def _write_row(evaluation: FolderEvaluation, row: FolderScores, predictions: Predictions, place: Path) -> None:
    classes = evaluation.classes
    Predictions.write(place, classes, {evaluation.split or WHOLE: predictions})
    columns = [one.name for one in fields(ClassScores)]
    files.write_csv(place / "classes.csv", columns, [[getattr(one, name) for name in columns] for one in row.classes])
    counts = [(name, *row_of) for name, row_of in zip(classes, row.confusion, strict=True)]
    files.write_csv(place / "confusion.csv", ("true", *classes), counts)
    title = f"{evaluation.split or 'all'} images of {evaluation.folder.name}"
    files.write_whole(place / "confusion.png", render_confusion(row.confusion, classes, title))
    bins = {"predicted": reliability(predictions.probabilities, predictions.labels)}
    if row.temperature is not None:
        calibrated = at_temperature(predictions.probabilities, row.temperature)
        bins["calibrated"] = reliability(calibrated, predictions.labels)
    columns = [one.name for one in fields(Bin) if one.name != "interval"]
    rows = [
        (kind, *(getattr(one, name) for name in columns), *(one.interval or (None, None)))
        for kind, found in bins.items()
        for one in found
    ]
    files.write_csv(place / "reliability.csv", ("kind", *columns, "interval_low", "interval_high"), rows)
    files.write_whole(place / "reliability.png", draw_reliability(bins["predicted"], bins.get("calibrated")))
