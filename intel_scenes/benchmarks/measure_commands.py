"""How fast the commands are, from the start of a process: beside bare scripts, and sweeps beside their runs alone."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from intel_scenes.benchmarks.measure import Compose, Row, in_turns
from intel_scenes.models.backbones import build
from intel_scenes.training import run as experiment
from intel_scenes.training.frozen_features import features_of

BARE_HELP = """
import hydra
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


def measure_start(compose: Compose, repeats: int, conf: Path) -> Iterator[Row]:
    """Seconds of `--help`, and from the start of the process to the first recorded step."""
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "bare.py"
        script.write_text(BARE_HELP.format(conf=str(conf)))
        ours = [sys.executable, "-m", "intel_scenes.train", "--help"]
        bare = [sys.executable, str(script), "--help"]
        yield in_turns("start", "help", "s", lambda: _seconds(ours, place), lambda: _seconds(bare, place), repeats)
        step = Path(place) / "step.py"
        step.write_text(BARE_STEP)
        root = experiment.data_module_of(compose(*DRAWN, "model=resnet18", "model.weights=null")).scenes.root
        rival = [sys.executable, str(step), str(root), str(torch.get_num_threads())]
        yield in_turns(
            "start", "first step", "s", lambda: _until_first_step(place), lambda: _seconds(rival, place), repeats
        )


def _until_first_step(place: str) -> float:
    """Until the row of an epoch of one step is on the disk, a few evaluated images included."""
    name = f"run{time.monotonic_ns()}"
    overrides = (*DRAWN, "model=resnet18", "model.weights=null", "epochs=1", "++trainer.limit_train_batches=1")
    quiet = (f"threads={torch.get_num_threads()}", "trainer.enable_progress_bar=false", f"hydra.run.dir={name}")
    command = [sys.executable, "-m", "intel_scenes.train", *overrides, *quiet]
    history = Path(place) / name / "history.csv"
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not history.exists():
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"{' '.join(command)} failed: {process.stderr.read()}")
        time.sleep(0.002)
    taken = time.perf_counter() - started
    process.communicate()
    return taken


def measure_sweep(compose: Compose, repeats: int) -> Iterator[Row]:
    """Seconds of eight runs of twenty steps in one multirun, against a process for each."""
    experiment.data_module_of(compose(*DRAWN, "model=mobilenet_v3_small", "model.weights=null"))  # drawn and decoded
    base = (
        *(*DRAWN, "model=mobilenet_v3_small", "model.weights=null", "epochs=1", "data.batch_size=16"),
        *("++trainer.limit_train_batches=20", "trainer.enable_progress_bar=false"),
        f"threads={torch.get_num_threads()}",
    )

    def together() -> float:
        with tempfile.TemporaryDirectory() as place:
            seeds = "seed=" + ",".join(map(str, range(1, 9)))
            return _seconds([sys.executable, "-m", "intel_scenes.train", "-m", *base, seeds], place)

    def apart() -> float:
        with tempfile.TemporaryDirectory() as place:
            commands = [[sys.executable, "-m", "intel_scenes.train", *base, f"seed={seed}"] for seed in range(1, 9)]
            return sum(_seconds(command, place) for command in commands)

    yield in_turns("sweep", "8 runs of 20 steps", "s", together, apart, repeats)


PROBES = (
    "optim=sgd,adam,adamw,nadam,rmsprop",
    "scheduler=constant,cosine,warmup_cosine,onecycle,wsd",
    "lr_scale=0.1,0.3,1,3",
)  # a hundred; of one seed, for random weights are others with another
PROBE_EPOCHS = 30


def measure_probe(compose: Compose, size: int, images: Sequence[str]) -> Iterator[Row]:
    """Seconds of a hundred heads on features that are there, against the backbone's forward pass in every epoch.

    Args:
        compose: Of a run.
        size: Side of the images in pixels.
        images: Overrides that say where they are.
    """
    base = ("recipe=linear_probe", "model=mobilenet_v2", "model.weights=null", f"data.image_size={size}")
    cfg = compose(*base)
    data = experiment.data_module_of(cfg)
    network = build(cfg.model.name, len(data.classes), weights=None, image_size=size)
    network.to(memory_format=torch.channels_last).eval()
    started = time.perf_counter()
    for _ in features_of(network, data.images, data.view, torch.device("cpu"), "32-true"):
        pass
    an_image = (time.perf_counter() - started) / len(data.scenes)
    in_an_epoch = len(data.train) + len(data.train_eval) + len(data.val)
    with tempfile.TemporaryDirectory() as place:
        quiet = (f"threads={torch.get_num_threads()}", "trainer=cpu", "trainer.enable_progress_bar=false")
        train = [sys.executable, "-m", "intel_scenes.train", *base, *images, *quiet, f"epochs={PROBE_EPOCHS}"]
        _seconds([*train, "epochs=1"], place)  # computes the features
        ours = _seconds([*train, "-m", *PROBES], place)
    rival = 100 * PROBE_EPOCHS * in_an_epoch * an_image
    ratio = ours / rival
    note = f"one turn; the rival is one pass over {len(data.scenes):,} images, counted for every run and epoch"
    yield Row("probe", f"100 heads of {PROBE_EPOCHS} epochs, {size} px", "s", ours, rival, ratio, ratio, ratio, note)


def _seconds(command: list[str], place: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    return time.perf_counter() - started
