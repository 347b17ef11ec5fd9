"""`python -m intel_scenes.predict`: the classes of images, by one finished run or several."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from intel_scenes import cli, files
from intel_scenes.config import PredictConfig
from intel_scenes.errors import UserError, counted
from intel_scenes.sweeps.runner import Job

if TYPE_CHECKING:  # imports torch's layers, for which --help need not wait
    from intel_scenes.table import Table

FORMS = (".csv", ".json")


def predict(config: PredictConfig, _job: Job) -> None:
    """Predicts images, prints a table of few or a count per class, and writes a row for each where asked."""
    runs = [config.run] if isinstance(config.run, str) else list(config.run)
    if not runs:
        raise UserError("run=[] must name finished runs: run=RUN or run=[RUN,RUN,...]")
    output = _output(config.output) if config.output else None

    import torch  # for which --help need not wait, nor for what imports it

    from intel_scenes.inference.find_run import find_runs
    from intel_scenes.inference.image_files import find_images, name_of
    from intel_scenes.inference.load_run import load_run
    from intel_scenes.inference.predict import FEW, predict
    from intel_scenes.inference.trained import trained
    from intel_scenes.runtime import resolve_threads
    from intel_scenes.training import memory

    memory.keep_freed()
    torch.set_num_threads(resolve_threads(config.threads))
    folders = find_runs(runs)
    paths = find_images(config.images)
    members = [
        trained(load_run(folder, with_predictions=False), config.views, trust=config.trust) for folder in folders
    ]
    table = predict(members, paths, list(map(name_of, paths)), batch_size=config.batch_size).table(config.abstain)
    cli.say("\n".join(f"by {folder}" for folder in folders))
    cli.say("\n".join(_rows(table) if len(paths) <= FEW else _counts(table)))
    if output:
        write(table, output)
        cli.say(f"written to {output}")


def _output(name: str) -> Path:
    """The file to write, asked before the work.

    Raises:
        UserError: It is of no known form, or cannot be written.
    """
    path = cli.output_file(name)
    if path.suffix not in FORMS:
        raise UserError(f"output={name} must end in {' or '.join(FORMS)}")
    return path


def write(table: "Table", output: Path) -> None:
    """Writes a table whole: as CSV, empty where there is nothing to say, or as a list of JSON objects with null."""
    if output.suffix == ".csv":
        files.write_csv(output, table.names, (list(row.values()) for row in table.rows()))
    else:
        files.write_whole(output, (json.dumps(list(table.rows()), indent=2, ensure_ascii=False) + "\n").encode())


def _rows(table: "Table") -> list[str]:
    width = max(map(len, table["path"]))
    return [f"{row['path']:<{width}}  {_said(row)}" for row in table.rows()]


def _said(row: dict[str, object]) -> str:
    if row["error"]:
        return f"cannot be read: {row['error']}"
    named = row["class"] or f"open (likeliest {row['left_open']})"
    others = [f"{row[name]} {row[f'{name}_probability']:.1%}" for name in ("second", "third") if row[name]]
    return f"{named} {row['probability']:.1%}, then {', '.join(others)}"


def _counts(table: "Table") -> list[str]:
    """How many images are of each class, how many were left open, and how many cannot be read."""
    classes = [name for name in table["class"] if name is not None]
    counts = [(str(name), int(number)) for name, number in zip(*np.unique(classes, return_counts=True), strict=True)]
    counts += [("left open", sum(name is not None for name in table["left_open"]))]
    counts += [("cannot be read", sum(error is not None for error in table["error"]))]
    told = [(name, number) for name, number in counts if number]
    width = max(len(name) for name, _ in told)
    return [counted(len(table), "image"), *(f"  {name:<{width}}  {number:>7,}" for name, number in told)]


if __name__ == "__main__":
    cli.start("predict", predict)
