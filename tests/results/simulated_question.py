"""Simulated trials and records of the open question, whose optimum, excess and D are known."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from intel_scenes import record
from results.open_question.cells import Study
from results.open_question.optimum import Optimum
from results.open_question.runs import Cell, Noise, Problem, Trial

LOWEST, NUM_TRAIN, EPOCHS = 0.3, 6_000, 5
CURVATURE = 0.9  # of 1.9 / 0.9, half of the largest stable rate with a momentum of 0.9
MAIN = Problem("mobilenet_v2", "head", 0.001, "all")
SEEDS = (1, 2, 3, 4, 5)


def optimum(value: float = LOWEST, beta: float = 1.5) -> Optimum:
    return Optimum(value, 1e-9, 1e-12, 100, NUM_TRAIN, CURVATURE, beta, beta - 0.1, beta + 0.1)


def trials(
    optimizer: str,
    batch_size: int,
    schedule: str,
    excess: float,
    *,
    problem: Problem = MAIN,
    passes: int = 20,
    noise_scale: float | None = None,
    best: float = 1.0,
    spread: float = 0.01,
    accuracy: float = 0.9,
    curve: tuple[float, ...] | None = None,
) -> Iterator[Trial]:
    """Yield the trials of a cell: seed 1 at three rates, the others, whose mean excess is given, at the best one.

    Args:
        optimizer: Name of the optimizer.
        batch_size: Images of a batch.
        schedule: Name of the schedule.
        excess: Excess of the objective at the best rate; it is doubled at the others.
        problem: What is minimized.
        passes: Passes over the images.
        noise_scale: Gradient noise scale.
        best: The best rate.
        spread: Relative difference between neighbouring seeds.
        accuracy: Test accuracy at the best rate.
        curve: Excess at the end of each epoch, relative to the last one; None for equal ones.
    """
    shape = curve or (1.0,) * EPOCHS
    for lr, seed in [(best / 3, 1), (best, 1), (best * 3, 1), *((best, seed) for seed in SEEDS[1:])]:
        last = excess * (1 + spread * (seed - 3.5)) * (1 if lr == best else 2)
        values = tuple(LOWEST + last * share for share in shape)
        yield Trial(
            cell=Cell(problem, optimizer, batch_size, schedule, passes, NUM_TRAIN),
            lr=lr,
            seed=seed,
            folder=Path("run"),
            images=(),
            curve=values,
            train_loss=values[-1],
            val_loss=values[-1],
            test_accuracy=accuracy + 0.001 * (seed - 3.5) if lr == best else accuracy - 0.1,
            noise=None if noise_scale is None else Noise(1.0, noise_scale),
        )


def study(*groups: Iterable[Trial], beta: float = 1.5) -> Study:
    every = [trial for group in groups for trial in group]
    return Study(
        every, {trial.cell.problem: optimum(beta=beta) for trial in every if trial.cell.problem.trained == "head"}
    )


def other_problem(**changes: object) -> Problem:
    return replace(MAIN, **changes)  # type: ignore[arg-type]


def leave_run(
    folder: Path,
    *,
    optim: str = "sgd",
    scheduler: str = "constant",
    seed: int = 1,
    lr: float = 0.1,
    excess: float = 0.1,
    averaged: float | None = None,
    lowest: float = LOWEST,
    settings: dict[str, object] | None = None,
    **summary: object,
) -> Path:
    """Write the record of a run whose objective is `lowest + excess`, a third of it penalty.

    Args:
        folder: Folder of the run.
        optim: Name of the optimizer.
        scheduler: Name of the schedule.
        seed: Seed of the run.
        lr: Learning rate.
        excess: Excess of the live weights at the end of each of four epochs, times 4, 3, 2, 1.
        averaged: Excess of the average of the last tenth; None leaves out the averages.
        lowest: The optimum.
        settings: Keys of `config.yaml` that differ from the defaults here.
        summary: Keys of `summary.json` that differ from the defaults here.
    """
    folder.mkdir(parents=True)
    whole = dict.fromkeys(record.SUMMARY_KEYS) | {
        **{"status": "completed", "optim": optim, "scheduler": scheduler, "model_name": "mobilenet_v2", "seed": seed},
        **{"lr": lr, "batch_size": 16, "epochs": 4, "num_train": 96, "data_fingerprint": "data", "subset_seed": 1},
        **{"val_accuracy": 0.9, "test_accuracy": 0.9, "config_digest": str(folder), "weights_digest": "weights"},
        **summary,
    }
    (folder / record.SUMMARY).write_text(json.dumps(whole))
    flat = {
        **{"optim._target_": "torch.optim.SGD", "optim.weight_decay": 0.5, "recipe.trained": "head"},
        **{"data.passes_per_epoch": 5, "averages": [0.1]},
        **(settings or {}),
    }
    nested: dict[str, object] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})  # type: ignore[assignment]
        place[last] = value
    (folder / record.CONFIG).write_text(yaml.safe_dump(nested))
    decay = float(flat["optim.weight_decay"])  # type: ignore[arg-type]
    rows = []
    for epoch in range(4):
        for window, above in ((0.0, excess), (0.1, averaged)):
            if above is not None:
                objective = lowest + above * (4 - epoch)
                norm = np.sqrt(2 / decay * objective / 3) if decay else 1.0
                loss = objective * (2 / 3 if decay else 1)
                test = (loss, 0.9) if epoch == 3 else (None, None)
                rows.append(record.AveragedEpoch(epoch, epoch * 30, window, loss, 0.9, loss, 0.9, *test, norm))
    record.Averages(tuple(rows)).write(folder)
    return folder


def leave_noise(folder: Path, *epochs: tuple[float, float]) -> None:
    """Write `gradient_noise.csv` with the signal and the noise of each epoch."""
    rows = [
        record.EpochNoise(epoch, epoch, 16, 64, 4, 1.0, 1.0, signal, noise, noise / signal)
        for epoch, (signal, noise) in enumerate(epochs)
    ]
    record.GradientNoise(tuple(rows)).write(folder)
