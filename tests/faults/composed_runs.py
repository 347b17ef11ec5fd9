"""Composed runs, each killed at a random moment and started again, against an undisturbed twin.

    python -m tests.faults.composed_runs FOLDER --seed=29 --runs=100

draws settings from the groups of `conf/`, trains an undisturbed run in FOLDER, then the same run with a cache of its
own, which is killed by SIGKILL (while it draws, packs, trains, evaluates or writes) and started again. A line for each
says whether it completed and whether it equals its twin: history, predictions, summary and best weights, without times
and memory.
"""

import argparse
import json
import logging
import multiprocessing
import random
import shutil
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder
from intel_scenes.record import Origin
from intel_scenes.training.claim import Place
from tests.small import asked
from tests.training.test_resume import TIMING, history, tensors

COMMON = (
    *("data=synthetic", "data.num_train=96", "data.num_test=24", "data.store_size=40", "data.image_size=32"),
    *("model.weights=null", "threads=1", "trainer=cpu", "trainer.enable_progress_bar=false"),
)
GROUPS = ("optim", "scheduler", "augment")
REFUSED = 2
MOST_KILLS = 5  # tries until one hits a run that has not ended


def drawn(chance: random.Random) -> list[str]:
    """Return random settings, which may contradict each other."""
    groups = {group: sorted(path.stem for path in (conf_folder() / group).glob("*.yaml")) for group in GROUPS}
    settings = [f"{group}={chance.choice(names)}" for group, names in groups.items()]
    settings += [
        f"model={chance.choice(('resnet9_x0_5', 'resnet9_x0_5', 'mobilenet_v3_small'))}",
        f"recipe={chance.choice(('default', 'scratch', 'plain', 'linear_probe'))}",
        f"epochs={chance.randint(1, 3)}",
        f"data.batch_size={chance.choice((8, 16, 32))}",
        f"seed={chance.randint(0, 1000)}",
    ]
    more = ("recipe.ema_decay=0.8", "recipe.mixup=0.2", "recipe.label_smoothing=0.1", "data.train_fraction=0.7")
    return [*settings, *chance.sample(more, chance.randint(0, 2))]


def train(folder: Path, cache: Path, settings: list[str], said: Path) -> None:
    """Train one run in a process of its own; exit with REFUSED if the settings contradict each other."""
    from intel_scenes.training.run import run

    logging.disable()
    said.parent.mkdir(parents=True, exist_ok=True)
    with said.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            run(asked(*COMMON, *settings, f"data.cache_dir={cache}"), Place(folder), Origin())
        except UserError as error:
            print(error)
            raise SystemExit(REFUSED) from error


def result(folder: Path) -> tuple[object, ...]:
    """Return what is equal for equal runs."""
    summary = json.loads((folder / record.SUMMARY).read_text())
    best = tensors(torch.load(folder / record.BEST, weights_only=True))
    kept = {key: value for key, value in summary.items() if key not in TIMING | {"test_folder"}}
    return kept, history(folder), (folder / record.PREDICTIONS).read_bytes(), [one.tolist() for one in best]


def disturbed(
    context: ForkServerContext, place: Path, settings: list[str], seconds: float, chance: random.Random
) -> tuple[int, float]:
    """Kill the run at a random moment and start it again; return the exit status of the last start, and the moment."""
    for _ in range(MOST_KILLS):
        shutil.rmtree(place, ignore_errors=True)
        arguments = (place / "run", place / "cache", settings, place / "said.txt")
        run = context.Process(target=train, args=arguments)
        run.start()
        moment = chance.uniform(0, seconds)
        run.join(moment)
        run.kill()
        run.join()
        if run.exitcode == -9:
            break
    run = context.Process(target=train, args=arguments)
    run.start()
    run.join()
    assert run.exitcode is not None
    return run.exitcode, moment


def main(folder: Path, seed: int, num_runs: int) -> None:
    """Run and report, one line for each composed run and one for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["intel_scenes.training.run", "intel_scenes.cli"])
    chance = random.Random(seed)
    done = completed = equal = 0
    while done < num_runs:
        settings, place = drawn(chance), folder / f"{done:03}"
        shutil.rmtree(place, ignore_errors=True)
        twin = context.Process(
            target=train, args=(place / "twin", folder / "cache", settings, place / "twin.txt"), name=str(done)
        )
        started = time.monotonic()
        twin.start()
        twin.join()
        if twin.exitcode == REFUSED and not (place / "twin" / record.SUMMARY).exists():
            continue  # the settings contradict each other
        done += 1
        status, moment = disturbed(context, place / "killed", settings, time.monotonic() - started, chance)
        ours = theirs = None
        with suppress(OSError, ValueError):
            ours, theirs = result(place / "killed/run"), result(place / "twin")
        is_complete = status == 0 and twin.exitcode == 0 and ours is not None
        completed += is_complete
        equal += is_complete and ours == theirs
        outcome = "equal" if is_complete and ours == theirs else f"NOT EQUAL (status {status}, twin {twin.exitcode})"
        print(f"{done}: killed after {moment:.1f} s: {outcome}: {' '.join(settings)}", flush=True)
        if outcome == "equal":
            shutil.rmtree(place)
    print(f"{completed} completed and {equal} equal to their twins, of {done}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=29)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    main(options.folder.absolute(), options.seed, options.runs)
