"""`python -m intel_scenes.evaluate`: several finished runs as one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from intel_scenes import cli, files, record
from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.sweeps.runner import Job

WAYS = ("mean", "vote", "soup")


def evaluate(cfg: DictConfig, job: Job) -> None:
    """Combines runs, prints how right each and all are, and writes it where asked."""
    if OmegaConf.is_missing(cfg, "run"):
        raise UserError("run=[FOLDER,FOLDER,...] is missing: the folders of finished runs")
    if cfg.combine not in WAYS:
        raise UserError(f"combine={cfg.combine}: there are {', '.join(WAYS)}{did_you_mean(str(cfg.combine), WAYS)}")
    folders = [cfg.run] if isinstance(cfg.run, str) else list(cfg.run or [])
    if not folders or not all(isinstance(folder, str) for folder in folders):
        raise UserError(f"run={cfg.run} must name the folders of finished runs: run=[FOLDER,FOLDER,...]")
    if len(folders) == 1 and "combine" in record.keys_of(job.overrides):
        raise UserError("combine has no effect on one run: leave it out, or name several")
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UserError("run names a folder twice: leave it out, each run counts once")
    output = cli.output_file(str(cfg.output)) if cfg.output else None
    weights = _weights_file(cfg, len(folders))
    from intel_scenes.inference import ensembles as ensemble  # imports torch, for which --help need not wait

    found = ensemble.evaluated([Path(folder) for folder in folders], cfg.combine, cfg.views, weights)
    for row in found["rows"]:
        cli.say(_line(row))
    if output:
        files.write_whole(output, json.dumps(found, indent=2).encode())
        cli.say(f"written to {output}")
    if weights:
        cli.say(f"weights written to {weights}")


def _weights_file(cfg: DictConfig, num_runs: int) -> Path | None:
    """Where the weights of a soup go, asked before the work."""
    if not cfg.output_weights:
        return None
    if num_runs == 1:
        raise UserError(f"output_weights has no effect on one run: its weights are in {record.BEST} of its folder")
    if cfg.combine != "soup":
        raise UserError(f"output_weights has no effect with combine={cfg.combine}: only combine=soup makes weights")
    path = cli.output_file(str(cfg.output_weights), key="output_weights")
    if path.suffix == ".safetensors":
        raise UserError(f"output_weights={path} is written by torch.save: name a .pth file")
    return path


def _line(row: Mapping[str, Any]) -> str:
    low, high = row["test_accuracy_interval"]
    loss, error = ("  -  " if row[key] is None else f"{row[key]:.3f}" for key in ("test_loss", "test_ece"))
    return (
        f"valid {row['val_accuracy']:6.1%}  test {row['test_accuracy']:6.1%} ({low:.1%} to {high:.1%})  "
        f"loss {loss}  calibration error {error}  {row['name']}"
    )


if __name__ == "__main__":
    cli.start("evaluate", evaluate)
