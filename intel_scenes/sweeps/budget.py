"""`study_minutes`: which epochs, and which part of a grid, fit into the time of a whole sweep, before its first run.

Epochs are lowered first, to `study.least_epochs`; then the last values of the factors of `study.cut` are left out, then
seeds beyond three. What fits is part of each run's overrides (`epochs=N`) and stands in `study.yaml`.
"""

import math
import sys
import time
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from intel_scenes import files
from intel_scenes.config import RunConfig, StudyConfig, SweepConfig
from intel_scenes.digests import cost_digest, is_neutral
from intel_scenes.errors import UserError, counted
from intel_scenes.record import StudyBudget, keys_of, read_study
from intel_scenes.studies.naming import few
from intel_scenes.sweeps.confirmation import arm_key
from intel_scenes.sweeps.jobs import Compose, check
from intel_scenes.sweeps.overrides import Overrides, normalized, parsed, values_by_key

if TYPE_CHECKING:
    from intel_scenes.training.run_cost import RunCost

KEY = "study_minutes"
LEAST_SEEDS = 3  # of a verdict; a sweep that asks for fewer keeps those that it asks for
LEAST_VALUES, LEAST_TUNED = 2, 3  # of a factor that is cut; the best of three values can have a neighbour on each side
MARGIN = 1.15  # times the measured seconds: a machine is slower while it trains for long than in a few steps
FIXED_SECONDS = 15.0  # of a sweep beside its runs: the process starts, composes, compares and writes its report


@dataclass(frozen=True)
class Planned:
    """A run of a sweep, before its epochs are known.

    Attributes:
        values: Each key that was set, its seed among them.
        arm: What makes the arm that it belongs to.
        cost: In seconds.
    """

    values: Mapping[str, str]
    arm: tuple[str, ...]
    cost: "RunCost"


@dataclass(frozen=True)
class Terms:
    """How a sweep may be made to fit.

    Attributes:
        cut: Keys whose last values are left out, in this order.
        tuned: Keys whose best value is taken within an arm.
        least_epochs: To which epochs may be lowered.
        confirm: Fresh seeds of each arm.
        confirm_best: Arms that are confirmed; None for all.
        num_workers: Runs that go on at once.
    """

    cut: Sequence[str] = ()
    tuned: Collection[str] = ()
    least_epochs: int = 1
    confirm: int = 0
    confirm_best: int | None = None
    num_workers: int = 1


@dataclass(frozen=True)
class Fit:
    """A part of a sweep, at a number of epochs.

    Attributes:
        runs: That are kept.
        cut: Values whose runs are left out, as `KEY=VALUE`.
        confirm: Fresh seeds of each arm.
        epochs: Of each run.
        seconds: That they take together.
    """

    runs: Sequence[Planned]
    cut: tuple[str, ...]
    confirm: int
    epochs: int
    seconds: float

    @property
    def num_seeds(self) -> int:
        """Of each arm, those that confirm where some do."""
        return self.confirm or max(1, len(_values(self.runs, "seed")))


def fit(runs: Sequence[Planned], limit: float, terms: Terms) -> Fit | None:
    """The largest part of a sweep that fits into a time, with as many epochs as fit; None where nothing does.

    Args:
        runs: All that the sweep asks for, in its order.
        limit: In seconds.
        terms: How it may be made to fit.
    """
    for cut, confirm in stages(runs, terms):
        kept = _kept(runs, cut)

        def seconds(epochs: int, kept: Sequence[Planned] = kept, confirm: int = confirm) -> float:
            return sweep_seconds(kept, epochs, confirm, terms)

        if seconds(terms.least_epochs) <= limit:
            most = terms.least_epochs
            while seconds(2 * most) <= limit:
                most *= 2
            epochs = bisect_right(range(2 * most), limit, lo=most, key=seconds) - 1
            return Fit(kept, cut, confirm, epochs, seconds(epochs))
    return None


def smallest(runs: Sequence[Planned], terms: Terms) -> Fit:
    """The smallest part of a sweep that still serves it, at the fewest epochs."""
    *_, (cut, confirm) = stages(runs, terms)
    kept = _kept(runs, cut)
    return Fit(kept, cut, confirm, terms.least_epochs, sweep_seconds(kept, terms.least_epochs, confirm, terms))


def stages(runs: Sequence[Planned], terms: Terms) -> Iterator[tuple[tuple[str, ...], int]]:
    """Values that are left out and seeds that confirm, from the whole sweep to the smallest part of it."""
    confirm = terms.confirm
    cut: tuple[str, ...] = ()
    yield cut, confirm
    floors = [(key, LEAST_TUNED if key in terms.tuned else LEAST_VALUES) for key in terms.cut]
    for key, floor in [*floors, *([] if confirm else [("seed", LEAST_SEEDS)])]:
        for value in reversed(_values(runs, key)[floor:]):
            cut = (*cut, f"{key}={value}")
            yield cut, confirm
    for fewer in range(confirm - 1, LEAST_SEEDS - 1, -1):
        yield cut, fewer


def sweep_seconds(runs: Sequence[Planned], epochs: int, confirm: int, terms: Terms) -> float:
    """What runs take, with those that confirm their arms by so many fresh seeds.

    Each arm is confirmed at its most expensive configuration, because which is chosen is not known. Runs that go on at
    once end at the latest after their mean share and one more run (Graham, "Bounds on multiprocessing timing
    anomalies", 1969).
    """
    features: dict[tuple[str, str], float] = {}
    arms: dict[tuple[str, ...], list[RunCost]] = {}
    for run in runs:
        features[run.cost.shared, run.values.get("seed", "") if run.cost.is_by_seed else ""] = run.cost.features
        arms.setdefault(run.arm, []).append(run.cost)
    costliest = [max(costs, key=lambda cost: cost.seconds(epochs)) for costs in arms.values()]
    costliest = sorted(costliest, key=lambda cost: cost.seconds(epochs), reverse=True)[: terms.confirm_best]
    for cost in costliest if confirm else []:
        fresh = [f"fresh {number}" for number in range(confirm)] if cost.is_by_seed else [""]
        features |= {(cost.shared, seed): cost.features for seed in fresh}
    tuning = [run.cost.seconds(epochs) for run in runs]
    confirming = [cost.seconds(epochs) for cost in costliest for _ in range(confirm)]
    return sum(features.values()) + sum(_makespan(part, terms.num_workers) for part in (tuning, confirming) if part)


def _makespan(seconds: Sequence[float], num_workers: int) -> float:
    return sum(seconds) / num_workers + (1 - 1 / num_workers) * max(seconds)


def _kept(runs: Sequence[Planned], cut: Collection[str]) -> list[Planned]:
    return [run for run in runs if not _is_cut(run.values, cut)]


def _is_cut(values: Mapping[str, str], cut: Collection[str]) -> bool:
    return any(f"{key}={value}" in cut for key, value in values.items())


def _values(runs: Sequence[Planned], key: str) -> list[str]:
    """The values of a key in the order of the runs."""
    return list(dict.fromkeys(run.values[key] for run in runs if key in run.values))


@dataclass(frozen=True)
class Request:
    """A sweep that is to fit into a time.

    Attributes:
        minutes: As typed.
        jobs: The overrides of each run.
        folder: Of the study.
        study: What it is for.
        options: How it runs.
        tuned: Keys whose best value is taken within an arm.
        threads: Of each run; None where its study has not said.
        num_workers: Runs that go on at once; None where the launcher does not say.
    """

    minutes: float
    jobs: Sequence[Overrides]
    folder: Path
    study: StudyConfig
    options: SweepConfig
    tuned: frozenset[str]
    threads: int
    num_workers: int | None

    @property
    def digest(self) -> str:
        """Of what is asked for, by which a later invocation finds what it came to."""
        texts = [
            sorted(text for key, text in normalized(job).items() if key == "study" or not is_neutral(key))
            for job in self.jobs
        ]
        options = [self.options.confirm, self.options.confirm_best]
        return files.digest([sorted(texts), options, list(self.study.cut or ()), self.study.least_epochs])[:32]


def resolve(request: Request, compose: Compose) -> StudyBudget:
    """What fits: as `study.yaml` says where the same sweep asked before, else measured and told.

    Raises:
        UserError: Something does not go together, or not even the smallest part fits.
    """
    plan = read_study(request.folder)
    for known in plan.budgets if plan else ():
        if (known.minutes, known.of) == (request.minutes, request.digest):
            print(f"{KEY}={request.minutes:g}: epochs={known.epochs}, as study.yaml says", file=sys.stderr)
            return known
    started = time.monotonic()
    configs = _composed(request, compose)
    terms = _terms(request, configs.values())
    runs = _measured(request, configs)
    spent = time.monotonic() - started + FIXED_SECONDS
    found = fit(runs, (60 * request.minutes - spent) / MARGIN, terms)
    if found is None:
        raise UserError(_too_short(request, runs, terms, spent))
    predicted = (spent + MARGIN * found.seconds) / 60
    num_confirming = len({run.arm for run in found.runs}) * found.confirm
    if terms.confirm_best:
        num_confirming = min(num_confirming, terms.confirm_best * found.confirm)
    text = f"{KEY}={request.minutes:g}: epochs={found.epochs} for {counted(len(found.runs), 'run', 'runs')}"
    text += f" and {num_confirming} that confirm" if found.confirm else ""
    print(f"{text}, about {predicted:.1f} minutes in all", file=sys.stderr)
    if found.cut:
        print(f"  left out to fit: {', '.join(found.cut)}", file=sys.stderr)
    if found.confirm < terms.confirm:
        print(f"  confirmed by {found.confirm} fresh seeds instead of {terms.confirm}", file=sys.stderr)
    if request.num_workers is None:
        print("  counted as one run after another: this launcher does not say how many go on at once", file=sys.stderr)
    return StudyBudget(
        minutes=float(request.minutes),
        of=request.digest,
        epochs=found.epochs,
        cut=found.cut,
        confirm=found.confirm,
        predicted_minutes=round(predicted, 2),
        date=files.now(),
    )


def fitted_jobs(jobs: Sequence[Overrides], budget: StudyBudget) -> list[Overrides]:
    """The jobs that a budget keeps, with its epochs in place of the minutes."""
    kept = [job for job in jobs if not _is_cut(values_by_key(job), budget.cut)]
    return [[*_without(job, KEY), f"epochs={budget.epochs}"] for job in kept]


def _without(job: Overrides, key: str) -> list[str]:
    return [text for text in job if parsed(text).key_or_group != key]


def refuse_idle(jobs: Sequence[Overrides], minutes: float | None) -> None:
    """Refuses what was typed for a budget where there is none.

    Raises:
        UserError: There is none.
    """
    for key in sorted(keys_of(jobs[0]) & {"study.cut", "study.least_epochs"}) if minutes is None else ():
        raise UserError(f"{key} has no effect without {KEY}: leave it out, or set {KEY}=20")


def _composed(request: Request, compose: Compose) -> dict[tuple[str, ...], RunConfig]:
    """The configuration of one run of each, by what those of other seeds have in common with it.

    Raises:
        UserError: One could not run, or does not go together with a budget of the study.
    """
    typed = keys_of(request.jobs[0])
    if "epochs" in typed:
        raise UserError(f"epochs has no effect with {KEY}, which fits them: leave one out")
    if unknown := sorted(set(request.study.cut or ()) - _swept(request.jobs)) if "study.cut" in typed else []:
        raise UserError(f"study.cut has {unknown[0]}, of which this sweep has a single value: leave it out")
    if "seed" in (request.study.cut or ()):
        raise UserError("study.cut has seed, and seeds are left out last, down to three: leave it out")
    jobs: dict[tuple[str, ...], Overrides] = {}
    for job in request.jobs:
        jobs.setdefault(_configuration(job), job)
    configs = {key: compose(job) for key, job in jobs.items()}
    for config in configs.values():
        if config.budget_minutes is not None:
            raise UserError(f"budget_minutes is for each run and {KEY} for all of them: leave one out")
        if config.compile:
            raise UserError(f"{KEY} is measured without compiling: leave compile out, or set epochs instead")
    check(jobs.values(), compose)
    return configs


def _configuration(job: Overrides) -> tuple[str, ...]:
    """What a job has in common with those of other seeds."""
    return tuple(_without(job, "seed"))


def _swept(jobs: Sequence[Overrides]) -> set[str]:
    values: dict[str, set[str]] = {}
    for job in jobs:
        for key, value in values_by_key(job).items():
            values.setdefault(key, set()).add(value)
    return {key for key, found in values.items() if len(found) > 1}


def _terms(request: Request, configs: Collection[RunConfig]) -> Terms:
    sizes = max(len(config.recipe.train_sizes(default=1)) for config in configs)  # each takes an epoch at least
    return Terms(
        cut=request.study.cut or (),
        tuned=request.tuned,
        least_epochs=max(request.study.least_epochs or 1, sizes),
        confirm=request.options.confirm,
        confirm_best=request.options.confirm_best,
        num_workers=request.num_workers or 1,
    )


def _measured(request: Request, configs: Mapping[tuple[str, ...], RunConfig]) -> list[Planned]:
    """Each run with its cost, measured once for all runs that cost the same."""
    from intel_scenes.training.run_cost import estimate_run_cost  # imports torch; a misspelt key need not wait for it

    digests = {key: cost_digest(config) for key, config in configs.items()}
    unlike = {digests[key]: config for key, config in configs.items()}
    what = f"measuring {counted(len(unlike), 'configuration')} by a few steps"
    print(f"{KEY}={request.minutes:g}: {what}", file=sys.stderr)
    progress = tqdm(unlike.items(), desc="measuring", unit="configuration", leave=False, disable=None)
    costs = {
        digest: estimate_run_cost(replace(config, threads=config.threads or request.threads))
        for digest, config in progress
    }
    return [
        Planned(values_by_key(job), arm_key(job, request.tuned), costs[digests[_configuration(job)]])
        for job in request.jobs
    ]


def _too_short(request: Request, runs: Sequence[Planned], terms: Terms, spent: float) -> str:
    """Why nothing fits, what would, and what that could show."""
    least = smallest(runs, terms)
    limit = (60 * request.minutes - spent) / MARGIN
    fewer = range(least.num_seeds - 1, 0, -1)
    held = next((number for number in fewer if _seconds_of_seeds(least, number, terms) <= limit), 0)
    enough = math.ceil((spent + MARGIN * least.seconds) / 60)
    configurations = {tuple(text for text in run.values.items() if text[0] != "seed") for run in least.runs}
    which = f"{counted(len(configurations), 'configuration')} at epochs={least.epochs}"
    which += f" without {few(least.cut)}" if least.cut else ""
    advice = "sweep fewer values" if request.study.cut else "name factors to shorten in study.cut"
    return (
        f"{KEY}={request.minutes:g} holds {held or 'none'} of {counted(least.num_seeds, 'seed')} of {which}"
        f"{_could_show(least, held)}: {KEY}={enough} holds {least.num_seeds}{_could_show(least, least.num_seeds)}, "
        f"or {advice}"
    )


def _seconds_of_seeds(part: Fit, num_seeds: int, terms: Terms) -> float:
    """What a part of a sweep takes with fewer seeds of each arm."""
    if part.confirm:
        return sweep_seconds(part.runs, part.epochs, num_seeds, terms)
    seeds = _values(part.runs, "seed")[:num_seeds]
    return sweep_seconds([run for run in part.runs if run.values["seed"] in seeds], part.epochs, 0, terms)


def _could_show(part: Fit, num_seeds: int) -> str:
    """What so many seeds of each arm could show, in brackets; nothing where nothing is compared."""
    from intel_scenes.studies.render.power import ASSUMED_IN_WORDS, assumed, detectable  # imports scipy

    num_arms, num_test = len({run.arm for run in part.runs}), part.runs[0].cost.num_test
    if num_arms < 2 or not num_seeds:
        return ""
    if num_seeds == 1:
        return " (one seed tests no difference)"
    shown = detectable(assumed(num_arms, num_images=num_test), num_seeds)
    return f" ({shown}, assuming {num_test:,} test images, {ASSUMED_IN_WORDS})"
