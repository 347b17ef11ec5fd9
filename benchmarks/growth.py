"""Growth of the cost with the number of images, of records, and of runs in one process.

    python -m benchmarks.growth images|records|runs NUMBER...

prints a table with a column for each number and the exponent between the last two: 1 is linear, 2 quadratic. Times are
CPU seconds, because other processes on the machine hardly affect them. Images and records are written to a temporary
folder below `TMPDIR`, and removed.
"""

import contextlib
import gc
import io
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import torch

from intel_scenes import record
from intel_scenes.config import CompareConfig, RunConfig
from intel_scenes.data.drawn_scenes import KINDS, draw_scene
from intel_scenes.data.file_digests import FileDigests
from intel_scenes.data.packed import pack
from intel_scenes.data.scenes import fingerprint
from intel_scenes.data.sources import Kaggle
from intel_scenes.data.splits import cut_splits
from intel_scenes.digests import Facts
from intel_scenes.record import Epoch, History, Origin, Predictions, Status, Summary
from intel_scenes.studies.load import collect
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.sweeps.jobs import finished_jobs, named_jobs
from intel_scenes.sweeps.overrides import composition_digest
from intel_scenes.training import memory
from intel_scenes.training.build import build_data
from intel_scenes.training.claim import Place, claimed, settle_previous_run
from intel_scenes.training.run import run
from tests.small import DRAWN, SMALL, asked, resolved

SIDE = 32  # of the drawn images, in pixels
TEST_SHARE = 7  # one of so many images is a test image
MOST_DECODED = 100_000  # beyond, images are only listed, read for their digests, and split
OPTIMS = ("sgd", "sgd_plain", "sgd_nesterov", "adam", "adamw", "nadam", "rmsprop", "sign")
SCHEDULERS = ("constant", "cosine", "onecycle", "step", "wsd")
NUM_TEST, NUM_VAL = 200, 100  # images of a record
CPU = torch.device("cpu")

Rows = Iterator[tuple[str, float]]  # what is measured, with its unit, and the value


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call, those of its threads included."""
    started = time.process_time()
    work()
    return time.process_time() - started


def of_images(number: int, place: Path) -> Rows:
    """Measure what a data set of so many images costs until it is ready to be trained on."""
    root, cache = place / "images", place / "cache"
    _draw(root, number)
    time.sleep(3)  # digests of files that were just written are not kept
    source, known = Kaggle(root), FileDigests(cache)
    yield "scanning, first start, s", cpu_seconds(lambda: source.read(cache, known))
    yield "scanning, later start, s", cpu_seconds(lambda: source.read(cache, known))
    layout = source.read(cache, known)
    train, test = layout.train, layout.test
    assert test is not None
    yield "fingerprint, s", cpu_seconds(lambda: fingerprint(train, test))
    yield "split, s", cpu_seconds(lambda: cut_splits(train, np.ones(len(train), bool), test, 0.1, seed=0))
    if number > MOST_DECODED:
        return
    yield "packing, s", cpu_seconds(lambda: [pack(scenes, cache, SIDE) for scenes in (train, test)])
    config = asked(*SMALL, f"data.root={root}", f"data.cache_dir={cache}", f"data.store_size={SIDE}")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # whose memory holds nothing else
        seconds, num_bytes = pool.submit(_start, config).result()
    yield "later start: scanning to splits, s", seconds
    yield "its peak memory, MB", num_bytes / 1e6


def _start(config: RunConfig) -> tuple[float, int]:
    """Return the CPU seconds until the images of a run are ready, and the memory that this takes at its peak."""
    memory.reset_peak(CPU)
    before = memory.peak(CPU) or 0
    seconds = cpu_seconds(lambda: build_data(config, reports=False))
    return seconds, (memory.peak(CPU) or 0) - before


def _draw(root: Path, number: int) -> None:
    """Write images that differ in a few bytes behind their end, from one template for each class."""
    for kind, name in enumerate(KINDS):
        template = io.BytesIO()
        draw_scene(name, SIDE, np.random.default_rng(kind)).save(template, "jpeg")
        folders = [root / split / name for split in ("seg_train", "seg_test")]
        for folder in folders:
            folder.mkdir(parents=True)
        for index in range(kind, number, len(KINDS)):
            folder = folders[index // len(KINDS) % TEST_SHARE == 0]
            (folder / f"{index}.jpg").write_bytes(template.getvalue() + str(index).encode())


def of_records(number: int, place: Path) -> Rows:
    """Measure what a sweep and a comparison cost beside so many complete runs of 40 arms."""
    study, new = place / "study", "optim.lr=0.123"
    images = [*DRAWN, *SMALL, f"data.cache_dir={place / 'cache'}"]
    config = resolved(*images)
    data = build_data(asked(*images), reports=False)
    arms = list(product(OPTIMS, SCHEDULERS))
    jobs = [
        [f"optim={arms[index % len(arms)][0]}", f"scheduler={arms[index % len(arms)][1]}", f"seed={index // len(arms)}"]
        for index in range(number)
    ]
    names = named_jobs(jobs, study)
    _write_records(study, names, data.splits.fingerprint)
    facts = Facts(weights=None, data=data.splits.fingerprint, precision="32-true", threads=1)

    def skip() -> None:
        assert len(finished_jobs(named_jobs(jobs, study), study, lambda job: asked(*images))) == number

    def claim() -> None:
        place_of_run = Place(study / new, siblings=study)
        with claimed(place_of_run, is_first=True) as held:
            settle_previous_run(config, facts, place_of_run, held)
        place_of_run.folder.rmdir()

    yield "skip all, s", cpu_seconds(skip)
    claim()  # creates what the first claim of a process creates
    yield "claim one more run, s", cpu_seconds(claim)
    yield "collect, s", cpu_seconds(lambda: collect(study))
    memory.reset_peak(CPU)
    before = memory.peak(CPU) or 0
    yield "compare, s", cpu_seconds(lambda: compare_and_write(study, CompareConfig(baseline=None, rope=0.5)))
    yield "its peak memory, MB", ((memory.peak(CPU) or 0) - before) / 1e6


def _write_records(study: Path, names: dict[str, Sequence[str]], data_fingerprint: str) -> None:
    """Write one record with the package's own writers for each job, with accuracies that depend on its arm and seed."""
    rng = np.random.default_rng(0)
    classes = tuple(KINDS)
    labels = {split: np.arange(count) % len(classes) for split, count in (("test", NUM_TEST), ("val", NUM_VAL))}
    paths = {split: [f"{classes[label]}/{index}.jpg" for index, label in enumerate(labels[split])] for split in labels}
    effects = {value: rng.normal(0, 0.03) for value in (*OPTIMS, *SCHEDULERS)}
    for name, job in names.items():
        optim, scheduler, seed = (text.partition("=")[2] for text in job)
        share = 0.8 + effects[optim] + effects[scheduler] + rng.normal(0, 0.01)
        predictions, accuracy = {}, {}
        for split in labels:
            is_right = rng.random(len(labels[split])) < share
            predicted = np.where(is_right, labels[split], (labels[split] + 1) % len(classes))
            probabilities = np.full((len(predicted), len(classes)), 0.01)
            probabilities[np.arange(len(predicted)), predicted] = 0.95
            predictions[split] = Predictions(paths[split], labels[split], predicted, probabilities)
            accuracy[split] = float(is_right.mean())
        Summary(
            status=Status.COMPLETED,
            started="2026-01-01T00:00:00+00:00",
            ended="2026-01-01T00:01:00+00:00",
            model="resnet18",
            model_name="resnet18",
            optim=optim,
            scheduler=scheduler,
            seed=int(seed),
            classes=classes,
            config_digest=f"{name} {seed}",
            configuration_digest=f"{optim} {scheduler}",
            composition_digest=composition_digest(job),
            data_fingerprint=data_fingerprint,
            split_digest="split",
            order_digest=f"order {seed}",
            init_digest=f"init {seed}",
            lr=0.1,
            batch_size=32,
            image_size=64,
            epochs=1,
            num_test=NUM_TEST,
            num_val=NUM_VAL,
            best_epoch=0,
            train_accuracy=accuracy["val"],
            val_accuracy=accuracy["val"],
            val_accuracy_tta=accuracy["val"],
            test_accuracy=accuracy["test"],
            temperature=1.0,
            fit_seconds=60.0,
            images_per_second=100.0,
            device="cpu x86_64",
            precision="32-true",
            threads=1,
            versions={"torch": torch.__version__},
            test_duplicates=(),
        ).write(study / name)
        (study / name / record.OVERRIDES).write_text("".join(f"- {text}\n" for text in job))
        Predictions.write(study / name, classes, predictions)
        val = accuracy["val"]
        History((Epoch(0, 10, 0.1, 1.0, val, val, 1.0, val, 100.0),)).write(study / name)


def of_runs(number: int, place: Path) -> Rows:
    """Measure the memory of one process over so many runs of one epoch."""
    resident = []
    images = [*DRAWN, *SMALL, "epochs=1", "model=resnet9_x0_5", "recipe=plain", f"data.cache_dir={place / 'cache'}"]
    for seed in range(1, number + 1):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run(asked(*images, f"seed={seed}"), Place(place / str(seed)), Origin())
        memory.reset_peak(CPU)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    yield "resident memory after the 5th run, MB", resident[min(4, number - 1)]
    yield "after the middle run, MB", resident[number // 2]
    yield "after the last run, MB", resident[-1]


WHAT = {"images": of_images, "records": of_records, "runs": of_runs}


def main(what: str, *numbers: str) -> None:
    """Measure and print a table."""
    counts = sorted(map(int, numbers))
    columns = []
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            columns.append(dict(WHAT[what](count, Path(place))))
        gc.collect()
        print(count, columns[-1], file=sys.stderr, flush=True)  # the larger ones take long
    print(f"| {what} | {' | '.join(f'{count:,}' for count in counts)} | exponent |")
    print("| --- " * (len(counts) + 2) + "|")
    for name in columns[0]:
        values = [column.get(name) for column in columns]
        known = [(count, value) for count, value in zip(counts, values, strict=True) if value]
        exponent = ""
        if len(known) > 1:
            (one, first), (more, last) = known[-2:]
            exponent = f"{math.log(last / first) / math.log(more / one):.2f}"
        cells = ["" if value is None else f"{value:.3g}" for value in values]
        print(f"| {name} | {' | '.join(cells)} | {exponent} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
