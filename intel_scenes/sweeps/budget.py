"""`study_minutes`: how many epochs, and which part of a grid, fit into the time of a whole sweep, before its first run.

Epochs are lowered first, to `study.least_epochs`; then the last values of the factors in `study.cut` are left out, then
seeds beyond three. The epochs that fit become an override of each run (`epochs=N`) and are kept in `study.yaml`.
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

from intel_scenes import files, record
from intel_scenes.config import RunConfig, StudyConfig, SweepConfig
from intel_scenes.digests import cost_digest, is_neutral
from intel_scenes.errors import UserError, counted, few
from intel_scenes.record import StudyBudget, keys_of, read_study
from intel_scenes.sweeps.confirmation import arm_key
from intel_scenes.sweeps.jobs import Compose, check
from intel_scenes.sweeps.overrides import Overrides, in_yaml, normalized, parsed, values_by_key

if TYPE_CHECKING:
    from intel_scenes.training.run_cost import RunCost

KEY = "study_minutes"
LEAST_SEEDS = 3  # seeds that a verdict needs; a sweep that asks for fewer keeps those it asks for
LEAST_VALUES, LEAST_TUNED = 2, 3  # values that a cut factor keeps; the best of three can have a neighbour on each side
MARGIN = 1.15  # factor on the measured seconds: a machine is slower in a long training than in a few steps
FIXED_SECONDS = 15.0  # what a sweep takes beside its runs: it starts, composes, compares and writes its report


@dataclass(frozen=True)
class Planned:
    """A run of a sweep whose number of epochs is not known yet.

    Attributes:
        values: Values of the keys that were set, the seed included.
        arm: Key of the arm that the run belongs to.
        cost: Measured cost of the run.
    """

    values: Mapping[str, str]
    arm: tuple[str, ...]
    cost: "RunCost"


@dataclass(frozen=True)
class Terms:
    """How a sweep may be shortened until it fits.

    Attributes:
        cut: Keys whose last values may be left out, in this order.
        tuned: Keys that are tuned within an arm.
        least_epochs: Fewest epochs of a run.
        confirm: Number of fresh seeds that confirm each arm.
        confirm_best: Number of arms that are confirmed; None for all.
        num_workers: Number of runs at the same time.
    """

    cut: Sequence[str] = ()
    tuned: Collection[str] = ()
    least_epochs: int = 1
    confirm: int = 0
    confirm_best: int | None = None
    num_workers: int = 1


@dataclass(frozen=True)
class Fit:
    """A part of a sweep, with a number of epochs.

    Attributes:
        runs: Runs that are kept.
        cut: Values whose runs are left out, as `KEY=VALUE`.
        confirm: Number of fresh seeds that confirm each arm.
        epochs: Epochs of each run.
        seconds: Time that all runs take together.
    """

    runs: Sequence[Planned]
    cut: tuple[str, ...]
    confirm: int
    epochs: int
    seconds: float

    @property
    def num_seeds(self) -> int:
        """Number of seeds of each arm that verdicts rest on: the confirming ones, where there are any."""
        return self.confirm or max(1, len(_values(self.runs, "seed")))


def fit(runs: Sequence[Planned], limit: float, terms: Terms) -> Fit | None:
    """Return the largest part of a sweep that fits into a time, with as many epochs as fit; None where nothing fits.

    Args:
        runs: All runs of the sweep, in its order.
        limit: The time in seconds.
        terms: How the sweep may be shortened.
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
    """Return the smallest part to which a sweep may be shortened, with the fewest epochs."""
    *_, (cut, confirm) = stages(runs, terms)
    kept = _kept(runs, cut)
    return Fit(kept, cut, confirm, terms.least_epochs, sweep_seconds(kept, terms.least_epochs, confirm, terms))


def stages(runs: Sequence[Planned], terms: Terms) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the values left out and the number of confirming seeds, from the whole sweep to its smallest part."""
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
    """Return an upper bound of the seconds that runs take, with those that confirm their arms on fresh seeds.

    Each arm is counted with its most expensive configuration, because the chosen one is not known yet. Runs on several
    workers end at the latest after their mean share and one more run (Graham, "Bounds on multiprocessing timing
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
    """Return the values of a key in the order of the runs."""
    return list(dict.fromkeys(run.values[key] for run in runs if key in run.values))


@dataclass(frozen=True)
class Request:
    """A sweep that has to fit into a time.

    Attributes:
        minutes: The time, as typed.
        jobs: Overrides of each run.
        folder: Folder of the study.
        study: Section `study` of the configuration.
        options: Section `sweep` of the configuration.
        tuned: Keys that are tuned within an arm.
        threads: CPU threads of each run.
        num_workers: Number of runs at the same time; None where the launcher does not tell.
        shared: Resolution in the plan file of the sweep's shards; None without one.
    """

    minutes: float
    jobs: Sequence[Overrides]
    folder: Path
    study: StudyConfig
    options: SweepConfig
    tuned: frozenset[str]
    threads: int
    num_workers: int | None
    shared: StudyBudget | None = None

    @property
    def digest(self) -> str:
        """Digest of the request, by which a later invocation finds the resolved budget."""
        texts = [
            sorted(text for key, text in normalized(job).items() if key == "study" or not is_neutral(key))
            for job in self.jobs
        ]
        options = [self.options.confirm, self.options.confirm_best]
        return files.digest([sorted(texts), options, list(self.study.cut or ()), self.study.least_epochs])[:32]


def resolve(request: Request, compose: Compose) -> StudyBudget:
    """Return what fits into a budget: from a plan that resolved the same sweep before, otherwise measured and printed.

    Raises:
        UserError: Options contradict each other, or not even the smallest part fits.
    """
    plan = read_study(request.folder)
    known = [(shared, "sweep.plan_file") for shared in (request.shared,) if shared]
    for budget, source in [*known, *((planned, record.STUDY) for planned in (plan.budgets if plan else ()))]:
        if (budget.minutes, budget.of) == (request.minutes, request.digest):
            print(f"{KEY}={request.minutes:g}: epochs={budget.epochs}, from {source}", file=sys.stderr)
            return budget
    started = time.monotonic()
    configs = _composed(request, compose)
    terms = _terms(request, configs.values())
    runs = _measured(request, configs)
    spent = time.monotonic() - started + FIXED_SECONDS
    part = fit(runs, (60 * request.minutes - spent) / MARGIN, terms)
    if part is None:
        raise UserError(_too_short(request, runs, terms, spent))
    predicted = (spent + MARGIN * part.seconds) / 60
    num_confirming = len({run.arm for run in part.runs}) * part.confirm
    if terms.confirm_best:
        num_confirming = min(num_confirming, terms.confirm_best * part.confirm)
    text = f"{KEY}={request.minutes:g}: epochs={part.epochs} for {counted(len(part.runs), 'run')}"
    text += f" and {num_confirming} confirming runs" if part.confirm else ""
    print(f"{text}, about {predicted:.1f} minutes in all", file=sys.stderr)
    if part.cut:
        print(f"  left out to fit: {', '.join(map(in_yaml, part.cut))}", file=sys.stderr)
    if part.confirm < terms.confirm:
        print(f"  confirmed on {part.confirm} fresh seeds instead of {terms.confirm}", file=sys.stderr)
    if request.num_workers is None:
        print("  estimated for one run at a time: this launcher does not tell how many run at once", file=sys.stderr)
    return StudyBudget(
        minutes=float(request.minutes),
        of=request.digest,
        epochs=part.epochs,
        cut=part.cut,
        confirm=part.confirm,
        predicted_minutes=round(predicted, 2),
        date=files.now(),
    )


def fitted_jobs(jobs: Sequence[Overrides], budget: StudyBudget) -> list[Overrides]:
    """Return the jobs that a budget keeps, with its epochs in place of the minutes."""
    kept = [job for job in jobs if not _is_cut(values_by_key(job), budget.cut)]
    return [[*_without(job, KEY), f"epochs={budget.epochs}"] for job in kept]


def cut_in_words(budget: StudyBudget | None) -> list[str]:
    """Return a sentence on the values that a budget left out, which nobody should add by hand."""
    if budget is None or not budget.cut:
        return []
    cut = ", ".join(map(in_yaml, budget.cut))
    return [
        f"{KEY}={budget.minutes:g} left out {cut}: if a best value is at that edge of the grid, raise {KEY} instead "
        "of adding values"
    ]


def _without(job: Overrides, key: str) -> list[str]:
    return [text for text in job if parsed(text).key_or_group != key]


def refuse_idle(jobs: Sequence[Overrides], minutes: float | None) -> None:
    """Refuse options of a budget without a budget.

    Raises:
        UserError: Such an option was typed.
    """
    for key in sorted(keys_of(jobs[0]) & {"study.cut", "study.least_epochs"}) if minutes is None else ():
        raise UserError(f"{key} has no effect without {KEY}: leave it out, or set {KEY}=20")


def _composed(request: Request, compose: Compose) -> dict[tuple[str, ...], RunConfig]:
    """Return each configuration once, by the overrides that its seeds share.

    Raises:
        UserError: A configuration cannot run, or contradicts the budget.
    """
    typed = keys_of(request.jobs[0])
    if "epochs" in typed:
        raise UserError(f"epochs has no effect with {KEY}, which determines the epochs: leave one of them out")
    if unknown := sorted(set(request.study.cut or ()) - _swept(request.jobs)) if "study.cut" in typed else []:
        raise UserError(
            f"study.cut names {unknown[0]}, which has a single value in this sweep: leave {unknown[0]} out of study.cut"
        )
    if "seed" in (request.study.cut or ()):
        raise UserError(
            "study.cut names seed, but seeds are always left out last, down to three: leave seed out of study.cut"
        )
    jobs: dict[tuple[str, ...], Overrides] = {}
    for job in request.jobs:
        jobs.setdefault(_configuration(job), job)
    configs = {key: compose(job) for key, job in jobs.items()}
    for config in configs.values():
        if config.budget_minutes is not None:
            raise UserError(f"budget_minutes limits each run and {KEY} all runs together: leave one of them out")
        if config.untimed:
            raise UserError(
                f"{KEY} cannot be combined with {config.untimed}, whose time is not part of its measured steps: leave "
                "it out, or set epochs instead"
            )
    check(jobs.values(), compose)
    return configs


def _configuration(job: Overrides) -> tuple[str, ...]:
    """Return the overrides that a job shares with those of other seeds."""
    return tuple(_without(job, "seed"))


def _swept(jobs: Sequence[Overrides]) -> set[str]:
    values: dict[str, set[str]] = {}
    for job in jobs:
        for key, value in values_by_key(job).items():
            values.setdefault(key, set()).add(value)
    return {key for key, of_key in values.items() if len(of_key) > 1}


def _terms(request: Request, configs: Collection[RunConfig]) -> Terms:
    num_sizes = max(len(config.recipe.train_sizes(default=1)) for config in configs)  # each needs an epoch
    return Terms(
        cut=request.study.cut or (),
        tuned=request.tuned,
        least_epochs=max(request.study.least_epochs or 1, num_sizes),
        confirm=request.options.confirm,
        confirm_best=request.options.confirm_best,
        num_workers=request.num_workers or 1,
    )


def _measured(request: Request, configs: Mapping[tuple[str, ...], RunConfig]) -> list[Planned]:
    """Return each run with its cost, which is measured once for all runs of equal cost."""
    from intel_scenes.training.run_cost import estimate_run_cost  # imports torch; a misspelt key need not wait for it

    digests = {key: cost_digest(config) for key, config in configs.items()}
    by_cost = {digests[key]: config for key, config in configs.items()}
    print(
        f"{KEY}={request.minutes:g}: measuring a few steps of {counted(len(by_cost), 'configuration')}", file=sys.stderr
    )
    progress = tqdm(by_cost.items(), desc="measuring", unit="configuration", leave=False, disable=None)
    costs = {
        digest: estimate_run_cost(replace(config, threads=config.threads or request.threads))
        for digest, config in progress
    }
    return [
        Planned(values_by_key(job), arm_key(job, request.tuned), costs[digests[_configuration(job)]])
        for job in request.jobs
    ]


def _too_short(request: Request, runs: Sequence[Planned], terms: Terms, spent: float) -> str:
    """Return the sentence that says what would fit, what does not, and what either could detect."""
    least = smallest(runs, terms)
    limit = (60 * request.minutes - spent) / MARGIN
    fewer = range(least.num_seeds - 1, 0, -1)
    num_fitting = next((number for number in fewer if _seconds_of_seeds(least, number, terms) <= limit), 0)
    enough = math.ceil((spent + MARGIN * least.seconds) / 60)
    configurations = {tuple(text for text in run.values.items() if text[0] != "seed") for run in least.runs}
    which = f"{counted(len(configurations), 'configuration')} at epochs={least.epochs}"
    which += f" without {few(list(map(in_yaml, least.cut)))}" if least.cut else ""
    advice = "sweep fewer values" if request.study.cut else "name factors that may be shortened in study.cut"
    seeds = counted(least.num_seeds, "seed")
    fits = f"only {num_fitting} of {seeds} would fit" if num_fitting else "not even one seed would fit"
    return (
        f"{KEY}={request.minutes:g} is too short: of {which}, {fits}{_could_show(least, num_fitting)}; set "
        f"{KEY}={enough} for {seeds}{_could_show(least, least.num_seeds)}, or {advice}"
    )


def _seconds_of_seeds(part: Fit, num_seeds: int, terms: Terms) -> float:
    """Return the seconds that a part of a sweep takes with fewer seeds of each arm."""
    if part.confirm:
        return sweep_seconds(part.runs, part.epochs, num_seeds, terms)
    seeds = _values(part.runs, "seed")[:num_seeds]
    return sweep_seconds([run for run in part.runs if run.values["seed"] in seeds], part.epochs, 0, terms)


def _could_show(part: Fit, num_seeds: int) -> str:
    """Return in brackets what so many seeds of each arm could detect; nothing where nothing is compared."""
    from intel_scenes.studies.render.power import ASSUMED_IN_WORDS, assumed, detectable  # imports scipy

    num_arms, num_test = len({run.arm for run in part.runs}), part.runs[0].cost.num_test
    if num_arms < 2 or not num_seeds:
        return ""
    if num_seeds == 1:
        return " (with one seed no difference can be tested)"
    smallest_difference = detectable(assumed(num_arms, num_images=num_test), num_seeds)
    return f" ({smallest_difference}, assuming {num_test:,} test images, {ASSUMED_IN_WORDS})"
