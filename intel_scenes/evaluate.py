"""`python -m intel_scenes.evaluate`: several finished runs as one."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from intel_scenes import cli, files, record
from intel_scenes.config import EvaluateConfig
from intel_scenes.errors import UserError
from intel_scenes.sweeps.runner import Job

if TYPE_CHECKING:  # imports torch, for which --help need not wait
    from intel_scenes.inference.ensembles import Row


def evaluate(config: EvaluateConfig, job: Job) -> None:
    """Combines runs, prints how right each and all are, and writes it where asked."""
    folders = [config.run] if isinstance(config.run, str) else list(config.run)
    if not folders:
        raise UserError("run=[] must name the folders of finished runs: run=[FOLDER,FOLDER,...]")
    if len(folders) == 1 and "combine" in job.origin.typed:
        raise UserError("combine has no effect on one run: leave it out, or name several")
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UserError("run names a folder twice: leave it out, each run counts once")
    output = cli.output_file(config.output) if config.output else None
    weights = _weights_file(config, len(folders))
    from intel_scenes.inference.ensembles import evaluate_runs  # imports torch, for which --help need not wait

    evaluation = evaluate_runs(
        [Path(folder) for folder in folders], config.combine, config.views, weights, trust=config.trust
    )
    for row in evaluation.rows:
        cli.say(_line(row))
    if output:
        files.write_whole(output, json.dumps(asdict(evaluation), indent=2).encode())
        cli.say(f"written to {output}")
    if weights:
        cli.say(f"weights written to {weights}")


def _weights_file(config: EvaluateConfig, num_runs: int) -> Path | None:
    """Where the weights of a soup go, asked before the work."""
    if not config.output_weights:
        return None
    if num_runs == 1:
        raise UserError(f"output_weights has no effect on one run: its weights are in {record.BEST} of its folder")
    if config.combine != "soup":
        raise UserError(f"output_weights has no effect with combine={config.combine}: only combine=soup makes weights")
    path = cli.output_file(config.output_weights, key="output_weights")
    if path.suffix == ".safetensors":
        raise UserError(f"output_weights={path} is written by torch.save: name a .pth file")
    return path


def _line(row: "Row") -> str:
    low, high = row.test_accuracy_interval
    loss, error = ("  -  " if value is None else f"{value:.3f}" for value in (row.test_loss, row.test_ece))
    return (
        f"valid {row.val_accuracy:6.1%}  test {row.test_accuracy:6.1%} ({low:.1%} to {high:.1%})  "
        f"loss {loss}  calibration error {error}  {row.name}"
    )


if __name__ == "__main__":
    cli.start("evaluate", evaluate)
