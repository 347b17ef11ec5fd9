"""Time of a process to `--help` and to its first training step, compared with plain scripts."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from intel_scenes.benchmarks.images import read_images
from intel_scenes.benchmarks.turns import Row, in_turns
from intel_scenes.config import DataConfig

# The import registers the resolvers that conf/ uses.
BARE_HELP = """
import hydra
import intel_scenes.cli
@hydra.main(version_base="1.3", config_path={conf!r}, config_name="train")
def main(cfg):
    pass
main()
"""
BARE_STEP = """
import sys, torch, torchvision, lightning
torch.set_num_threads(int(sys.argv[2]))
from torchvision import datasets, transforms
steps = [transforms.Resize(64), transforms.ToTensor()]
images = datasets.ImageFolder(sys.argv[1], transforms.Compose(steps))
pixels, labels = next(iter(torch.utils.data.DataLoader(images, 32, shuffle=True)))
network = torchvision.models.resnet18(num_classes=6).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(network.parameters(), 0.001, momentum=0.9)
torch.nn.functional.cross_entropy(network(pixels), labels).backward()
optimizer.step()
"""
DRAWN = (
    *("data=synthetic", "data.num_train=400", "data.num_test=60", "data.image_size=64"),
    *("trainer=cpu", "recipe=plain"),
)


def benchmark_start(drawn: DataConfig, conf: Path, threads: int, repeats: int) -> Iterator[Row]:
    """Measure the seconds of `--help`, and from the start of the process to the first recorded step.

    Args:
        drawn: The images that `DRAWN` chooses.
        conf: Folder of configuration files.
        threads: Torch's threads on the CPU.
        repeats: Number of turns.
    """
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "bare.py"
        script.write_text(BARE_HELP.format(conf=str(conf)))
        ours = [sys.executable, "-m", "intel_scenes.train", "--help"]
        bare = [sys.executable, str(script), "--help"]
        yield in_turns(
            "start", "help", "s", lambda: process_seconds(ours, place), lambda: process_seconds(bare, place), repeats
        )
        step = Path(place) / "step.py"
        step.write_text(BARE_STEP)
        root = read_images(drawn, "resnet18").splits.scenes.root
        rival = [sys.executable, str(step), str(root), str(threads)]
        yield in_turns(
            *("start", "first step", "s"),
            lambda: _until_first_step(place, threads),
            lambda: process_seconds(rival, place),
            repeats,
        )


def _until_first_step(place: str, threads: int) -> float:
    """Return the seconds until the row of an epoch of one step is on the disk, including a short evaluation."""
    name = f"run{time.monotonic_ns()}"
    overrides = (*DRAWN, "model=resnet18", "model.weights=null", "epochs=1", "++trainer.limit_train_batches=1")
    quiet = (f"threads={threads}", "trainer.enable_progress_bar=false", f"hydra.run.dir={name}")
    command = [sys.executable, "-m", "intel_scenes.train", *overrides, *quiet]
    history = Path(place) / name / "history.csv"
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not history.exists():
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"{' '.join(command)} failed: {process.stderr.read()}")
        time.sleep(0.002)
    seconds = time.perf_counter() - started
    process.communicate()
    return seconds


def process_seconds(command: Sequence[str], place: str) -> float:
    """Return the seconds of a command in a folder.

    Raises:
        RuntimeError: The command failed.
    """
    started = time.perf_counter()
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    return time.perf_counter() - started
