"""Simulated records: `python -m tests.studies.simulated_records FOLDER NUM_RUNS` writes a study to compare.

Its configurations have five seeds each, 3,000 test and 1,400 validation images, and 30 epochs.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import yaml

from intel_scenes import record
from tests.studies.simulated import table, world

CLASSES = ("buildings", "forest", "glacier", "mountain", "sea", "street")


def keys(**values: object) -> dict[str, object]:
    return values


def leave_run(
    study: Path,
    name: str,
    typed: dict[str, object],
    right: np.ndarray,
    *,
    num_val: int = 0,
    val_right: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    epochs: int = 2,
    **summary,
) -> Path:
    """Write the record of a completed run.

    Args:
        study: Study folder.
        name: Name of the run's folder.
        typed: Overrides, among them `seed`.
        right: (N,) whether each test image is classified correctly.
        num_val: Number of validation rows in `predictions.csv`, all correct.
        val_right: (num_val,) whether each validation image is classified correctly; None for all.
        labels: Classes of the images of both splits, from the first on; None cycles through the classes.
        epochs: Number of rows of `history.csv`.
        summary: Keys of `summary.json` that differ from the defaults here.
    """
    folder = study / name
    folder.mkdir(parents=True)
    seed = typed.get("seed", 1)
    configuration = {key: value for key, value in typed.items() if key != "seed"}
    accuracy = float(np.mean(right))
    whole = dict.fromkeys(record.SUMMARY_KEYS) | {
        **keys(status="completed", started="2026-01-01T00:00:00+00:00", ended="2026-01-01T00:01:00+00:00"),
        **keys(model="resnet18", model_name="resnet18", optim="sgd", scheduler="cosine", recipe="default", seed=seed),
        **keys(classes=list(CLASSES), config_digest=f"{configuration} {seed}", configuration_digest=f"{configuration}"),
        **keys(data_fingerprint="data", split_digest="split", order_digest=f"order {seed}", init_digest=f"init {seed}"),
        **keys(lr=0.1, batch_size=32, image_size=64, epochs=epochs, parameters=11_000_000, num_test=len(right)),
        **keys(
            best_epoch=epochs - 1,
            train_accuracy=min(1.0, accuracy + 0.05),
            val_accuracy=accuracy,
            test_accuracy=accuracy,
        ),
        **keys(fit_seconds=60.0, images_per_second=100.0, device="cpu x86_64", precision="32-true", threads=1),
        **keys(versions={"torch": "2.14.1"}, git_commit="abc", package_version="0.1.0", test_duplicates=[]),
        **summary,
    }
    (folder / record.SUMMARY).write_text(json.dumps(whole))
    (folder / record.OVERRIDES).write_text(yaml.safe_dump([f"{key}={value}" for key, value in typed.items()]))
    val_right = np.ones(num_val, bool) if val_right is None else val_right
    if labels is None:
        labels = np.arange(max(len(right), len(val_right))) % len(CLASSES)
    predicted = np.where(right, labels[: len(right)], (labels[: len(right)] + 1) % len(CLASSES))
    share = [0.01] * (len(CLASSES) - 1)
    lines = [",".join(("split", "path", "label", "predicted", *CLASSES))]
    of_val = np.where(val_right, labels[: len(val_right)], (labels[: len(val_right)] + 1) % len(CLASSES))
    for split, predictions in (("val", of_val), ("test", predicted)):
        for index, number in enumerate(predictions.tolist()):
            label = int(labels[index])
            highest = 0.95 + (seed if isinstance(seed, int) else 0) / 1e6
            path = f"{CLASSES[label]}/{split}{index:05}.jpg"
            probabilities = [*share[:number], highest, *share[number:]]
            lines.append(",".join((split, path, str(label), str(number), *map(str, probabilities))))
    (folder / record.PREDICTIONS).write_text("\n".join(lines) + "\n")
    with (folder / record.HISTORY).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(record.HISTORY_COLUMNS)
        for epoch in range(epochs):
            grown = accuracy * (epoch + 1) / epochs
            writer.writerow((epoch, epoch * 10, 0.1, 1.0, grown, min(1.0, grown + 0.05), 1.0, grown, 100.0))
    return folder


def right(share: float, num: int = 120, seed: int = 0) -> np.ndarray:
    """Return (num,) whether each image is correct: a given share of them, chosen by the seed."""
    return np.random.default_rng(seed).permutation(num) < share * num


def leave(study, optim, seed, share, **more):
    """Write the record of a run of an optimizer with a given test accuracy."""
    typed = {"optim": optim, "seed": seed} | more.pop("typed", {})
    name = ",".join(f"{key}={value}" for key, value in typed.items())
    return leave_run(study, name, typed, right(share, seed=seed), optim=optim, **more)


def leave_study(study: Path, shifts: dict[str, float], num_seeds: int, *, num_images: int = 600, seed_sd: float = 0.3):
    """Write runs of optimizers with shifted logits; return (seeds, images) correctness by optimizer."""
    rng = np.random.default_rng(5)
    images = world(rng, num_images)
    tables = {optim: table(rng, images, num_seeds, seed_sd, shift) for optim, shift in shifts.items()}
    for optim, rows in tables.items():
        for seed, row in enumerate(rows, start=1):
            leave_run(study, f"optim={optim},seed={seed}", {"optim": optim, "seed": seed}, row > 0, optim=optim)
    return tables


def main(study: Path, num_runs: int) -> None:
    """Write a large study."""
    rng = np.random.default_rng(1)
    images = world(rng, 4_400)
    optims, schedulers = ("sgd", "adam", "adamw", "nadam"), ("constant", "cosine", "onecycle", "step", "wsd")
    for number in range(num_runs // 5):
        typed = {
            "optim": optims[number % 4],
            "scheduler": schedulers[number // 4 % 5],
            "lr_scale": round(0.1 * 1.3 ** (number // 20), 4),
        }
        for seed, row in enumerate(table(rng, images, 5, 0.3, 0.1 * rng.normal()), start=1):
            right = row > 0
            of_val = {"val_right": right[3_000:], "val_accuracy": float(right[3_000:].mean()), "temperature": 1.0}
            leave_run(study, f"run{number:04}-{seed}", typed | {"seed": seed}, right[:3_000], epochs=30, **of_val)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
