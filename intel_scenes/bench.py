"""`python -m intel_scenes.bench`: how fast the package is on this machine, beside what one would write by hand."""

import json
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from intel_scenes import cli, record
from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.overrides import conf_folder
from intel_scenes.sweep import Job

PARTS = ("input", "loop", "start", "sweep", "models")


def bench(cfg: DictConfig, _job: Job) -> None:
    """Measures what is asked for, prints a line for each figure, and writes `bench.json`."""
    parts = [cfg.what] if isinstance(cfg.what, str) else list(cfg.what)
    for part in parts:
        if part not in PARTS:
            raise UserError(f"what={part}: there are {', '.join(PARTS)}{did_you_mean(str(part), PARTS)}")
    if not isinstance(cfg.repeats, int) or cfg.repeats < 1:
        raise UserError(f"repeats={cfg.repeats} has to be a whole number above 0")
    import torch

    from intel_scenes.runs import (
        configuration,
        measure,
        measure_commands,
    )  # imports torch, for which --help need not wait

    threads = configuration.resolve_threads(cfg)
    torch.set_num_threads(threads)
    known = measure.machine(threads)
    cli.say(f"{known['processor']}, {threads} threads, torch {known['torch']}, {cfg.repeats} turns each")
    GlobalHydra.instance().clear()
    rows = []
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):

        def of_run(*overrides: str) -> DictConfig:
            data = [f"data.root={cfg.data.root}"] if cfg.data.root else ["data=synthetic"]
            own = [] if any(text.startswith("data=") for text in overrides) else data
            return compose("train", [*own, f"threads={threads}", *overrides])

        for part in parts:
            found = {
                "input": lambda: measure.measure_input(of_run, cfg.repeats),
                "loop": lambda: measure.measure_loop(of_run, cfg.repeats),
                "start": lambda: measure_commands.measure_start(of_run, cfg.repeats, conf_folder()),
                "sweep": lambda: measure_commands.measure_sweep(of_run, cfg.repeats),
                "models": lambda: measure.measure_models(cfg.image_size, cfg.repeats),
            }[part]()
            for row in found:
                rows.append(row)
                cli.say(
                    f"{row.what:<7}{row.case:<32} ours {row.ours:8.4g} {row.unit:<9} rival {row.rival:8.4g}  "
                    f"ratio {row.ratio:.2f} ({row.ratio_low:.2f} to {row.ratio_high:.2f})"
                )
    text = json.dumps(measure.as_json(rows, known), indent=2)
    record.write_whole(Path(cfg.output), text.encode())
    cli.say(f"written to {cfg.output}")


if __name__ == "__main__":
    cli.start("bench", bench)
