"""`python -m intel_scenes.bench`: how fast the package is on this machine, beside what one would write by hand."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from intel_scenes import cli, files
from intel_scenes.composition import configured
from intel_scenes.config import BenchConfig, RunConfig
from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.keys import conf_folder
from intel_scenes.sweeps.runner import Job

if TYPE_CHECKING:  # they import torch, for which --help need not wait
    from intel_scenes.benchmarks.turns import Row
    from intel_scenes.runtime import Runtime

PARTS = ("input", "loop", "start", "sweep", "probe", "models", "predict", "ablation")
ONLY_FOR = {
    "repeats": ("input", "loop", "start", "sweep", "models", "predict", "ablation"),
    "data.root": ("input", "loop", "probe", "ablation"),
    "image_size": ("probe", "models"),
    **dict.fromkeys(("run", "images"), ("predict",)),
    **dict.fromkeys(("models", "precision", "channels_last", "compile"), ("models",)),
}


def bench(config: BenchConfig, job: Job) -> None:
    """Measures what is asked for, prints a line for each figure, and writes `bench.json`."""
    parts, output = _checked(config, job)
    import torch  # for which --help need not wait, nor for what imports it

    from intel_scenes.benchmarks.turns import as_json, this_machine
    from intel_scenes.runtime import runtime_of_machine

    runtime = runtime_of_machine(config.precision, config.threads)
    torch.set_num_threads(runtime.threads)
    machine = this_machine(runtime)
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("torch", "torchvision", "lightning"))
    cli.say(f"{machine.processor}, {machine.device}, threads={runtime.threads}; {versions}; repeats={config.repeats}")
    elsewhere = [part for part in parts if part in ("models", "predict")]
    if parts != elsewhere:
        cli.say("float32 on the CPU" + f", but for {' and '.join(elsewhere)}" * bool(elsewhere))
    measurements = _measurements(config, runtime)
    rows = []
    for part in parts:
        for row in measurements[part]():
            rows.append(row)
            text = json.dumps(as_json(rows, machine), indent=2)
            files.write_whole(output, text.encode())  # now, for the next one may be broken off
            cli.say(_line(row))
    cli.say(f"written to {output}")


def _checked(config: BenchConfig, job: Job) -> tuple[list[str], Path]:
    """The parts to measure, and the file to write.

    Raises:
        UserError: A part is misspelt, an option has no effect, or the file cannot be written.
    """
    parts = _names(config.what)
    if not parts:
        raise UserError(f"what=[] measures nothing: there are {', '.join(PARTS)}")
    for part in parts:
        if part not in PARTS:
            raise UserError(f"what={part}: there are {', '.join(PARTS)}{did_you_mean(part, PARTS)}")
    for key, only in ONLY_FOR.items():
        if key in job.origin.typed and not set(parts) & set(only):
            raise UserError(f"{key} has no effect on what={','.join(parts)}, only on {' and '.join(only)}")
    if "predict" in parts and (config.run is None or config.images is None):
        raise UserError("what=predict needs a finished run and images: set run=RUN and images=FOLDER")
    return parts, cli.output_file(config.output)


def _names(given: str | tuple[str, ...]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _measurements(config: BenchConfig, runtime: "Runtime") -> "dict[str, Callable[[], Iterator[Row]]]":
    """What measures each of `PARTS`."""
    from intel_scenes.benchmarks import loop_rate
    from intel_scenes.benchmarks.ablation import measure_ablation
    from intel_scenes.benchmarks.input_rate import measure_input
    from intel_scenes.benchmarks.network_rate import Computation, measure_models
    from intel_scenes.benchmarks.prediction_rate import measure_prediction
    from intel_scenes.benchmarks.probe_cost import measure_probe
    from intel_scenes.benchmarks.process_start import DRAWN, measure_start
    from intel_scenes.benchmarks.sweep_cost import measure_sweep
    from intel_scenes.inference.find_run import find_run
    from intel_scenes.inference.image_files import find_images

    repeats, threads, size = config.repeats, runtime.threads, config.image_size
    real = [f"data.root={config.data.root}"] if config.data.root else []
    images = real or ["data=synthetic"]

    def measure_images() -> "Iterator[Row]":
        training = _composed(*images)
        return measure_input(training.data, training.augment, repeats)

    loop = (*(real or loop_rate.MANY_DRAWN), *loop_rate.MEASURED, f"threads={threads}")
    computation = Computation(size, config.channels_last, config.compile)
    return {
        "input": measure_images,
        "loop": lambda: loop_rate.measure_loop(_composed(*loop), repeats),
        "start": lambda: measure_start(_composed(*DRAWN).data, conf_folder(), threads, repeats),
        "sweep": lambda: measure_sweep(_composed(*DRAWN).data, threads, repeats),
        "probe": lambda: measure_probe(_composed(*images).data, images, size, threads),
        "predict": lambda: measure_prediction(find_run(config.run or ""), find_images(config.images or ()), repeats),
        "ablation": lambda: measure_ablation(_composed(*loop), repeats),
        "models": lambda: measure_models(_names(config.models), computation, runtime, repeats),
    }


def _composed(*overrides: str) -> RunConfig:
    """The configuration of a training, as its command composes it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return configured(compose("train", list(overrides)), RunConfig)


def _line(row: "Row") -> str:
    return (
        f"{row.what:<8}{row.case:<32} ours {row.ours:8.4g} {row.unit:<9} rival {row.rival:8.4g}  "
        f"ratio {row.ratio:.3g} ({row.ratio_low:.3g} to {row.ratio_high:.3g})" + (f"  {row.note}" if row.note else "")
    )


if __name__ == "__main__":
    cli.start("bench", bench)
