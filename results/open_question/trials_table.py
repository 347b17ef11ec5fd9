"""The trials of a study as one table, `trials.csv`: an analysis of records that were kept in no other form."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from intel_scenes import files
from results.open_question.runs import Cell, Noise, Problem, Trial

TRIALS = "trials.csv"
OF_PROBLEM = tuple(field.name for field in fields(Problem))
OF_CELL = tuple(field.name for field in fields(Cell) if field.name != "problem")
MEASURED = ("train_loss", "val_loss", "test_accuracy")
COLUMNS = (*OF_PROBLEM, *OF_CELL, "lr", "seed", "curve", *MEASURED, "signal", "noise", "same_images", "run")


def write(trials: Iterable[Trial], output: Path) -> None:
    """Write the table, in the order of cells, rates and seeds; a curve is the objective after each epoch."""
    ordered = sorted(trials, key=lambda trial: (trial.cell, trial.lr, trial.seed))
    files.write_csv(output / TRIALS, COLUMNS, map(_row, ordered))


def read(folder: Path) -> list[Trial]:
    """Return the trials of a folder's table, none where it has no table."""
    path = folder / TRIALS
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_trial(row, folder) for row in csv.DictReader(file)]


def _row(trial: Trial) -> tuple[object, ...]:
    problem, cell = asdict(trial.cell.problem), asdict(trial.cell)
    return (
        *(problem[name] for name in OF_PROBLEM),
        *(cell[name] for name in OF_CELL),
        *(trial.lr, trial.seed, " ".join(map(str, trial.curve))),
        *(getattr(trial, name) for name in MEASURED),
        *(trial.noise or (None, None)),
        *(json.dumps(trial.images), trial.folder.name),
    )


def _trial(row: dict[str, str], folder: Path) -> Trial:
    problem = Problem(row["model"], row["trained"], float(row["weight_decay"]), row["images"])
    sizes = int(row["passes"]), int(row["num_train"])
    return Trial(
        cell=Cell(problem, row["optimizer"], int(row["batch_size"]), row["schedule"], *sizes),
        lr=float(row["lr"]),
        seed=int(row["seed"]),
        folder=folder / row["run"],
        images=tuple(json.loads(row["same_images"])),
        curve=tuple(map(float, row["curve"].split())),
        **{name: float(row[name] or math.nan) for name in MEASURED},
        noise=Noise(float(row["signal"]), float(row["noise"])) if row["noise"] else None,
    )
