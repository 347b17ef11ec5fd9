"""`python -m intel_scenes.bench`: speed of the package on this machine, compared with plain scripts."""

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

if TYPE_CHECKING:  # these import torch, which would delay --help
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
    """Run the chosen benchmarks, print a line for each figure, and write `bench.json`."""
    parts, output = _checked(config, job)
    import torch  # here and below, so that --help does not wait for it

    from intel_scenes.benchmarks.turns import as_json, this_machine
    from intel_scenes.runtime import runtime_of_machine

    runtime = runtime_of_machine(config.precision, config.threads)
    torch.set_num_threads(runtime.threads)
    machine = this_machine(runtime)
    versions = ", ".join(f"{name} {machine.versions[name]}" for name in ("torch", "torchvision", "lightning"))
    cli.say(f"{machine.processor}, {machine.device}, threads={runtime.threads}; {versions}; repeats={config.repeats}")
    on_device = [part for part in parts if part in ("models", "predict")]
    if parts != on_device:
        cli.say("float32 on the CPU" + f", except {' and '.join(on_device)}" * bool(on_device))
    benchmarks = _benchmarks(config, runtime)
    rows = []
    for part in parts:
        for row in benchmarks[part]():
            rows.append(row)
            text = json.dumps(as_json(rows, machine), indent=2)
            files.write_whole(output, text.encode())  # after each figure, because the next may be interrupted
            cli.say(
                f"{row.what:<8}{row.case:<32} ours {row.ours:8.4g} {row.unit:<9} rival {row.rival:8.4g}  "
                f"ratio {row.ratio:.3g} ({row.ratio_low:.3g} to {row.ratio_high:.3g})"
                + (f"  {row.note}" if row.note else "")
            )
    cli.say(f"written to {output}")


def _checked(config: BenchConfig, job: Job) -> tuple[list[str], Path]:
    """Return the benchmarks to run and the file to write.

    Raises:
        UserError: There is no such benchmark, an option has no effect, or the file cannot be written.
    """
    parts = _names(config.what)
    if not parts:
        raise UserError(f"what=[] names no benchmark: choose among {', '.join(PARTS)}")
    for part in parts:
        if part not in PARTS:
            raise UserError(
                f"what={part} is not a benchmark{did_you_mean(part, PARTS)}: choose among {', '.join(PARTS)}"
            )
    for key, only in ONLY_FOR.items():
        if key in job.origin.typed and not set(parts) & set(only):
            raise UserError(f"{key} has no effect on what={','.join(parts)}, only on {', '.join(only)}: leave it out")
    if "predict" in parts and (config.run is None or config.images is None):
        raise UserError("what=predict needs a complete run and images: set run=RUN and images=FOLDER")
    return parts, cli.output_file(config.output)


def _names(value: str | tuple[str, ...]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _benchmarks(config: BenchConfig, runtime: "Runtime") -> "dict[str, Callable[[], Iterator[Row]]]":
    """Return the benchmark of each of `PARTS`."""
    from intel_scenes.benchmarks import loop_rate
    from intel_scenes.benchmarks.ablation import benchmark_ablation
    from intel_scenes.benchmarks.input_rate import benchmark_input
    from intel_scenes.benchmarks.network_rate import Computation, benchmark_models
    from intel_scenes.benchmarks.prediction_rate import benchmark_prediction
    from intel_scenes.benchmarks.probe_cost import benchmark_probe
    from intel_scenes.benchmarks.process_start import DRAWN, benchmark_start
    from intel_scenes.benchmarks.sweep_cost import benchmark_sweep
    from intel_scenes.inference.find_run import find_run
    from intel_scenes.inference.image_files import find_images

    repeats, threads, size = config.repeats, runtime.threads, config.image_size
    real = [f"data.root={config.data.root}"] if config.data.root else []
    images = real or ["data=synthetic"]

    def training_input() -> "Iterator[Row]":
        training = _composed(*images)
        return benchmark_input(training.data, training.augment, repeats)

    loop = (*(real or loop_rate.MANY_DRAWN), *loop_rate.LOOP_RUN, f"threads={threads}")
    computation = Computation(size, config.channels_last, config.compile)
    return {
        "input": training_input,
        "loop": lambda: loop_rate.benchmark_loop(_composed(*loop), repeats),
        "start": lambda: benchmark_start(_composed(*DRAWN).data, conf_folder(), threads, repeats),
        "sweep": lambda: benchmark_sweep(_composed(*DRAWN).data, threads, repeats),
        "probe": lambda: benchmark_probe(_composed(*images).data, images, size, threads),
        "predict": lambda: benchmark_prediction(find_run(config.run or ""), find_images(config.images or ()), repeats),
        "ablation": lambda: benchmark_ablation(_composed(*loop), repeats),
        "models": lambda: benchmark_models(_names(config.models), computation, runtime, repeats),
    }


def _composed(*overrides: str) -> RunConfig:
    """Compose the configuration of a training, as its command does."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return configured(compose("train", list(overrides)), RunConfig)


if __name__ == "__main__":
    cli.start("bench", bench)
