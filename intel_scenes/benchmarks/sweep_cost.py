"""Time of a sweep, compared with a process for each of its runs."""

import sys
import tempfile
from collections.abc import Iterator

from intel_scenes.benchmarks.images import read_images
from intel_scenes.benchmarks.process_start import DRAWN, process_seconds
from intel_scenes.benchmarks.turns import Row, in_turns
from intel_scenes.config import DataConfig


def benchmark_sweep(drawn: DataConfig, threads: int, repeats: int) -> Iterator[Row]:
    """Measure the seconds of eight runs of 20 steps in one multirun, and with a process for each.

    Args:
        drawn: The images that `DRAWN` chooses.
        threads: Torch's threads on the CPU.
        repeats: Number of turns.
    """
    read_images(drawn, "mobilenet_v3_small")  # fills the cache, so that no process draws or decodes them
    base = (
        *(*DRAWN, "model=mobilenet_v3_small", "model.weights=null", "epochs=1", "data.batch_size=16"),
        *("++trainer.limit_train_batches=20", "trainer.enable_progress_bar=false"),
        f"threads={threads}",
    )

    def together() -> float:
        with tempfile.TemporaryDirectory() as place:
            seeds = "seed=" + ",".join(map(str, range(1, 9)))
            return process_seconds([sys.executable, "-m", "intel_scenes.train", "-m", *base, seeds], place)

    def apart() -> float:
        with tempfile.TemporaryDirectory() as place:
            commands = [[sys.executable, "-m", "intel_scenes.train", *base, f"seed={seed}"] for seed in range(1, 9)]
            return sum(process_seconds(command, place) for command in commands)

    yield in_turns("sweep", "8 runs of 20 steps", "s", together, apart, repeats)
