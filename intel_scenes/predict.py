"""`intel-scenes predict`: predict the classes of images with one finished run or several."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from intel_scenes import cli, files
from intel_scenes.config import PredictConfig
from intel_scenes.errors import UserError, counted, percentage
from intel_scenes.inference.find_run import find_finished_runs
from intel_scenes.inference.image_files import find_images, name_of
from intel_scenes.sweeps.runner import Job

if TYPE_CHECKING:
    from intel_scenes.table import Table

FORMS = (".csv", ".json")


def predict(config: PredictConfig, _job: Job) -> None:
    """Predict images, print a line for each or a count per class, and write a row for each if asked to."""
    runs = [config.run] if isinstance(config.run, str) else list(config.run)
    if not runs:
        raise UserError("run=[] names no run: give finished runs as run=RUN or run=[RUN,RUN,...]")
    output = cli.output_file(config.output) if config.output else None
    if output and output.suffix not in FORMS:
        raise UserError(f"output={config.output} must end in {' or '.join(FORMS)}")
    folders = find_finished_runs(runs)
    paths = find_images(config.images)

    import torch  # takes seconds, so paths are checked first

    from intel_scenes.inference.load_run import load_run
    from intel_scenes.inference.predict import FEW, predict
    from intel_scenes.inference.trained import trained
    from intel_scenes.runtime import resolve_threads
    from intel_scenes.training import memory

    memory.keep_freed()
    torch.set_num_threads(resolve_threads(config.threads))
    members = [
        trained(load_run(folder, with_predictions=False), config.views, trust=config.trust) for folder in folders
    ]
    table = predict(members, paths, list(map(name_of, paths)), batch_size=config.batch_size).table(config.abstain)
    cli.say("\n".join(f"predicted by {folder}" for folder in folders))
    if len(paths) <= FEW:
        width = max(map(len, table["path"]))
        cli.say("\n".join(f"{row['path']:<{width}}  {_row_text(row)}" for row in table.rows()))
    else:
        cli.say("\n".join(_counts(table)))
    if output:
        write(table, output)
        cli.say(f"written to {output}")


def write(table: "Table", output: Path) -> None:
    """Write a table as CSV with empty cells, or as a JSON list of objects with null, depending on the suffix."""
    if output.suffix == ".csv":
        files.write_csv(output, table.names, (list(row.values()) for row in table.rows()))
    else:
        files.write_whole(output, (json.dumps(list(table.rows()), indent=2, ensure_ascii=False) + "\n").encode())


def _row_text(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"cannot be read: {row['error']}"
    predicted = row["class"] or f"left open (most likely {row['left_open']})"
    others = [f"{row[name]} {percentage(row[f'{name}_probability'])}" for name in ("second", "third") if row[name]]
    return f"{predicted} {percentage(row['probability'])}, then {', '.join(others)}"


def _counts(table: "Table") -> list[str]:
    """Return the number of images per class, left open, and unreadable, as lines of text."""
    classes = [name for name in table["class"] if name is not None]
    counts = [(str(name), int(number)) for name, number in zip(*np.unique(classes, return_counts=True), strict=True)]
    counts += [("left open", sum(name is not None for name in table["left_open"]))]
    counts += [("cannot be read", sum(error is not None for error in table["error"]))]
    above_zero = [(name, number) for name, number in counts if number]
    width = max(len(name) for name, _ in above_zero)
    return [counted(len(table), "image"), *(f"  {name:<{width}}  {number:>7,}" for name, number in above_zero)]


if __name__ == "__main__":
    cli.start("predict", predict)
