"""`intel-scenes evaluate`: score finished runs on labelled images, each alone and several combined."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from intel_scenes import cli, files, record
from intel_scenes.config import EvaluateConfig
from intel_scenes.errors import UserError, percentage
from intel_scenes.inference.find_run import find_finished_runs
from intel_scenes.sweeps.runner import Job

if TYPE_CHECKING:  # imports torch, which takes seconds
    from intel_scenes.inference.ensembles import RunScores


def evaluate(config: EvaluateConfig, job: Job) -> None:
    """Evaluate runs on their own images or on a labelled folder, print the scores, and write them if asked to."""
    names = [config.run] if isinstance(config.run, str) else list(config.run)
    if not names:
        raise UserError("run=[] names no run: give finished runs as run=[RUN,RUN,...]")
    if len(names) == 1 and "combine" in job.origin.typed:
        raise UserError("combine has no effect with one run: leave it out, or name several runs")
    if config.data.root is None and config.data.labels is None:
        _on_own_images(config, names)
    else:
        _on_folder(config, names)


def _on_own_images(config: EvaluateConfig, names: list[str]) -> None:
    """Evaluate runs on the images that they were validated and tested on."""
    if config.split is not None:
        raise UserError(f"split={config.split} has no effect without data.root=FOLDER: leave it out, or name a folder")
    output = cli.output_file(config.output) if config.output else None
    weights = _weights_file(config, len(names))
    folders = find_finished_runs(names)
    from intel_scenes.inference.ensembles import evaluate_runs  # imports torch, which takes seconds

    # The cache of this command, because a record that someone else wrote could name any folder.
    cache = Path(config.data.cache_dir).expanduser()
    evaluation = evaluate_runs(folders, config.combine, config.views, weights, trust=config.trust, cache_dir=cache)
    for row in evaluation.rows:
        cli.say(_line(row))
    if output:
        files.write_whole(output, json.dumps(asdict(evaluation), indent=2).encode())
        cli.say(f"written to {output}")
    if weights:
        cli.say(f"weights written to {weights}")


def _on_folder(config: EvaluateConfig, names: list[str]) -> None:
    """Evaluate runs on a folder of labelled images."""
    if config.combine != "mean":
        raise UserError(
            f"combine={config.combine} has no effect with data.root, where several runs are always combined by their "
            "mean: leave it out"
        )
    if config.output_weights:
        raise UserError("output_weights has no effect with data.root: leave one of them out")
    output = cli.output_folder(config.output) if config.output else None
    folders = find_finished_runs(names)
    labels = Path(config.data.labels).expanduser() if config.data.labels else None
    root = Path(config.data.root).expanduser() if config.data.root else None
    if root is not None and not root.is_dir():
        raise UserError(f"data.root={root}: there is no such folder; give a folder of labelled images")
    if labels is not None and not labels.is_file():
        raise UserError(f"data.labels={labels}: there is no such file; give a CSV file")
    from intel_scenes.inference.labelled import evaluate_folder  # imports torch, which takes seconds
    from intel_scenes.inference.labelled_files import write_evaluation
    from intel_scenes.inference.labelled_text import evaluation_text
    from intel_scenes.inference.load_run import load_run

    evaluation = evaluate_folder(
        [load_run(folder) for folder in folders],
        root or (labels or Path()).parent,
        config.split,
        config.views,
        labels=labels,
        cache_dir=Path(config.data.cache_dir).expanduser(),
        trust=config.trust,
    )
    cli.say(evaluation_text(evaluation))
    if output:
        write_evaluation(evaluation, output)
        cli.say(f"written to {output}")


def _weights_file(config: EvaluateConfig, num_runs: int) -> Path | None:
    """Return the file for the weights of a soup, checked before the work."""
    if not config.output_weights:
        return None
    if num_runs == 1:
        raise UserError(f"output_weights has no effect with one run: its weights are in {record.BEST} of its folder")
    if config.combine != "soup":
        raise UserError(f"output_weights has no effect with combine={config.combine}: set combine=soup")
    path = cli.output_file(config.output_weights, key="output_weights")
    if path.suffix == ".safetensors":
        raise UserError(f"output_weights={path} would be written by torch.save: name a .pth file")
    return path


def _line(row: "RunScores") -> str:
    low, high = map(percentage, row.test_accuracy_interval)
    loss, error = ("  -  " if value is None else f"{value:.3f}" for value in (row.test_loss, row.test_ece))
    return (
        f"validation accuracy {percentage(row.val_accuracy):>7}  test accuracy {percentage(row.test_accuracy):>7} "
        f"({low} to {high})  balanced {percentage(row.test_balanced_accuracy):>7}  loss {loss}  "
        f"calibration error {error}  {row.name}"
    )


if __name__ == "__main__":
    cli.start("evaluate", evaluate)
