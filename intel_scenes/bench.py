"""`python -m intel_scenes.bench`: how fast the package is on this machine, beside what one would write by hand."""

import json
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from intel_scenes import cli, files, record
from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.keys import conf_folder
from intel_scenes.sweeps.runner import Job

PARTS = ("input", "loop", "start", "sweep", "probe", "models")
ONLY_FOR = {
    "repeats": ("input", "loop", "start", "sweep", "models"),
    "data.root": ("input", "loop", "probe"),
    "image_size": ("probe", "models"),
    **dict.fromkeys(("models", "precision", "channels_last", "compile"), ("models",)),
}


def bench(cfg: DictConfig, job: Job) -> None:
    """Measures what is asked for, prints a line for each figure, and writes `bench.json`."""
    parts, output = _checked(cfg, job)
    import torch  # for which --help need not wait, nor for what imports it

    from intel_scenes.benchmarks import measure, measure_commands, measure_loop
    from intel_scenes.training import configuration

    threads = configuration.resolve_threads(cfg)
    torch.set_num_threads(threads)
    precision = configuration.resolve_precision(cfg.precision, "auto")
    how = measure.Computation(cfg.image_size, precision, cfg.channels_last, cfg.compile)
    models = [cfg.models] if isinstance(cfg.models, str) else list(cfg.models)
    known = measure.machine(threads)
    versions = ", ".join(f"{name} {known['versions'][name]}" for name in ("torch", "torchvision", "lightning"))
    cli.say(f"{known['processor']}, {known['device']}, threads={threads}; {versions}; repeats={cfg.repeats}")
    if parts != ["models"]:
        cli.say("float32 on the CPU" + ", but for models" * ("models" in parts))
    GlobalHydra.instance().clear()
    images = [f"data.root={cfg.data.root}"] if cfg.data.root else ["data=synthetic"]
    rows = []
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):

        def of_run(*overrides: str) -> DictConfig:
            own = [] if any(text.startswith("data=") for text in overrides) else images
            return compose("train", [*own, f"threads={threads}", *overrides])

        for part in parts:
            found = {
                "input": lambda: measure.measure_input(of_run, cfg.repeats),
                "loop": lambda: measure_loop.measure_loop(of_run, cfg.repeats),
                "start": lambda: measure_commands.measure_start(of_run, cfg.repeats, conf_folder()),
                "sweep": lambda: measure_commands.measure_sweep(of_run, cfg.repeats),
                "probe": lambda: measure_commands.measure_probe(of_run, cfg.image_size, images),
                "models": lambda: measure.measure_models(models, how, cfg.repeats),
            }[part]()
            for row in found:
                rows.append(row)
                text = json.dumps(measure.as_json(rows, known), indent=2)
                files.write_whole(output, text.encode())  # now, for the next one may be broken off
                cli.say(
                    f"{row.what:<7}{row.case:<32} ours {row.ours:8.4g} {row.unit:<9} rival {row.rival:8.4g}  "
                    f"ratio {row.ratio:.3g} ({row.ratio_low:.3g} to {row.ratio_high:.3g})"
                    + (f"  {row.note}" if row.note else "")
                )
    cli.say(f"written to {output}")


def _checked(cfg: DictConfig, job: Job) -> tuple[list[str], Path]:
    """The parts to measure, and the file to write.

    Raises:
        UserError: A value is out of range or misspelt, an option has no effect, or the file cannot be written.
    """
    parts = [cfg.what] if isinstance(cfg.what, str) else list(cfg.what or [])
    for part in parts or [None]:
        if part not in PARTS:
            raise UserError(f"what={part}: there are {', '.join(PARTS)}{did_you_mean(str(part), PARTS)}")
    for key in ("repeats", "image_size", "threads"):
        is_open = key == "threads" and cfg[key] is None
        if not is_open and (type(cfg[key]) is not int or cfg[key] < 1):
            raise UserError(f"{key}={cfg[key]} has to be a whole number above 0")
    for key in ("channels_last", "compile"):
        if not isinstance(cfg[key], bool):
            raise UserError(f"{key}={cfg[key]} has to be true or false")
    typed = record.keys_of(job.overrides)
    for key, only in ONLY_FOR.items():
        if key in typed and not set(parts) & set(only):
            raise UserError(f"{key} has no effect on what={','.join(parts)}, only on {' and '.join(only)}")
    return parts, cli.output_file(str(cfg.output))


if __name__ == "__main__":
    cli.start("bench", bench)
