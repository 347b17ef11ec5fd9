"""Simulate studies with known truth, and count false verdicts and intervals that miss.

`python -m tests.studies.grid --studies 1000 --cells PATTERN --method after output.csv`
"""

import argparse
import csv
import fnmatch
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy import special, stats

from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.estimates import RULE_OF_THREE, Estimate, satterthwaite
from intel_scenes.studies.statistics.families import moderated
from intel_scenes.studies.statistics.verdicts import BETTER, EQUAL, LEVEL, NONE_SHOWN, WORSE, Design, judge
from tests.studies.simulated import Cell, right, rows_of

ROPE = 0.005
BASE = (0.3,) * 6
KINDS = ("quiet", "mixed", "noisy")


def noisy(num: int, share: float, sds: tuple[float, float] = (2.0, 0.4)) -> tuple[float, ...]:
    """Return seed SDs of which a share, at least one arm, is large."""
    many = max(1, round(num * share))
    return (sds[0],) * many + (sds[1],) * (num - many)


def cells() -> list[Cell]:
    """Return cells that vary one or two properties of six arms, three paired seeds, 1,500 images, 90 % accuracy."""
    clear, margin = (0.0,) + (-2.0,) * 5, (0.5,) + (0.0,) * 5
    alike = [Cell(f"{num} arms, sd {sd}", (sd,) * num) for num in (2, 6, 12) for sd in (0.0, 0.3, 0.8, 1.0, 1.3)]
    alike += [Cell(f"40 arms, sd {sd}", (sd,) * 40) for sd in (0.3, 1.0)]
    unequal = [
        Cell(f"{num} arms, {many} noisy, sd {sds[0]} and {sds[1]}", noisy(num, share, sds))
        for num, shares in ((2, (0.5,)), (6, (0.0, 1 / 3)), (12, (0.0, 0.25, 1 / 3)), (40, (0.25,)))
        for share in shares
        for sds in ((2.0, 0.4), (1.3, 0.3))
        for many in [max(1, round(num * share))]
    ]
    seeds = [Cell(f"{num} seeds, sd {sd}", (sd,) * 6, num_seeds=num) for num in (5, 10) for sd in (0.3, 1.0)]
    seeds += [
        Cell(f"{num} seeds, 12 arms, 4 noisy, sd 2.0 and 0.4", noisy(12, 1 / 3), num_seeds=num) for num in (5, 10)
    ]
    pairing = [Cell(f"{how}, sd {sd}", (sd,) * 6, pairing=how) for how in ("unpaired", "lost") for sd in (0.3, 1.0)]
    pairing += [Cell(f"partly, sd {sd}", (sd,) * 6, pairing="partly", num_seeds=4) for sd in (0.3, 1.0)]
    pairing += [
        Cell(f"{how}, 2 noisy, sd 2.0 and 0.4", noisy(6, 1 / 3), pairing=how, num_seeds=num)
        for how, num in (("unpaired", 3), ("lost", 3), ("partly", 4))
    ]
    images = [Cell(f"{num} images, sd {sd}", (sd,) * 6, num_images=num) for num in (60, 150) for sd in (0.3, 1.0)]
    images += [Cell(f"10000 images, sd {sd}", (sd,) * 6, num_images=10_000) for sd in (0.1, 0.3)]
    images += [Cell("10000 images, 2 arms", (0.3,) * 2, num_images=10_000)]
    accuracies = [
        Cell(f"accuracy {accuracy}, sd {sd}", (sd,) * 6, accuracy=accuracy)
        for accuracy, sd in ((0.5, 0.3), (0.5, 1.3), (0.75, 0.5), (0.97, 0.2), (0.997, 0.05))
    ]
    shapes = [Cell(f"t3 seeds, sd {sd}", (sd,) * 6, tails="t3") for sd in (0.8, 1.3)] + [
        Cell("t3 seeds, 2 noisy, sd 2.0 and 0.4", noisy(6, 1 / 3), tails="t3"),
        Cell("beta images", BASE, difficulty="beta"),
        Cell("beta images, sd 1.0", (1.0,) * 6, difficulty="beta"),
        Cell("shared seeds, sd 0.3", BASE, shared_sd=0.8),
        Cell("shared seeds, 2 noisy, sd 2.0 and 0.4", noisy(6, 1 / 3), shared_sd=0.8),
    ]
    margins = [
        Cell("margin, one of 6", BASE, margin),
        Cell("margin, one of 6, 10 seeds, 10000 images", BASE, margin, num_seeds=10, num_images=10_000),
        Cell("margin, one of 6, sd 0.1, 10 seeds, 10000 images", (0.1,) * 6, margin, num_seeds=10, num_images=10_000),
        Cell("margin, 12 arms, 10 seeds, 10000 images", (0.3,) * 12, (0.5, 0.0) * 6, num_seeds=10, num_images=10_000),
        Cell("margin, 12 arms, 5 seeds, 3000 images", (0.1,) * 12, (0.5, 0.0) * 6, num_seeds=5, num_images=3000),
        Cell("margin, 2 arms, 10 seeds", (0.3,) * 2, (0.5, 0.0), num_seeds=10, num_images=3000),
    ]
    power = [
        Cell("power, sd 0.3", BASE, clear),
        Cell("power, sd 0.3, 3 points", BASE, (0.0,) + (-3.0,) * 5),
        Cell("power, sd 0.8", (0.8,) * 6, (0.0,) + (-3.0,) * 5),
        Cell("power, sd 1.3", (1.3,) * 6, (0.0,) + (-6.0,) * 5),
        Cell("power, 2 arms, sd 0.3", (0.3,) * 2, (0.0, -2.0)),
        Cell("power, 2 arms, sd 1.0", (1.0,) * 2, (0.0, -4.0)),
        Cell("power, 3 arms, sd 0.3", (0.3,) * 3, (0.0, -2.0, -2.0)),
        Cell("power, 12 arms, sd 0.3", (0.3,) * 12, (0.0,) + (-3.0,) * 11),
        Cell("power, 40 arms, sd 0.3", (0.3,) * 40, (0.0,) + (-3.0,) * 39),
        Cell("power, 10 seeds, sd 0.3", BASE, (0.0,) + (-1.5,) * 5, num_seeds=10),
        Cell("power, lost, sd 0.3", BASE, clear, pairing="lost"),
        Cell("power, unpaired, sd 0.3", BASE, clear, pairing="unpaired"),
        Cell("power, 12 arms, 4 noisy, sd 2.0 and 0.4", noisy(12, 1 / 3), (0.0,) * 11 + (-3.0,)),
    ]
    tuned = [
        Cell(f"tuned, {trials} trials, {reading}, sd 1.5 and 0.3", (1.5, 0.3), trials=trials, reading=reading)
        for trials in (5, 16)
        for reading in ("fresh", "same", "crossed")
    ]
    tuned += [Cell("tuned, 5 trials, fresh, 6 arms", noisy(6, 1 / 3, (1.5, 0.3)), trials=5)]
    every = [*alike, *unequal, *seeds, *pairing, *images, *accuracies, *shapes, *margins, *power, *tuned]
    return sorted(every, key=lambda cell: len(cell.seed_sds) == 40)  # the slowest last


GEOMETRIC = (1000, 631, 398, 251, 158, 100)  # images of classes, ten times as many of the most common as of the rarest
OFFSETS = (4.0, 3.0, 1.0, 0.0, -3.0, -5.0)  # of the class accuracies: the rarer, the harder


def balanced_cells() -> list[Cell]:
    """Return cells of balanced accuracy: arms trade the rarest class for the most common one, 2 points in each."""
    usual = {"num_seeds": 5, "num_images": sum(GEOMETRIC), "classes": tuple(zip(GEOMETRIC, OFFSETS, strict=True))}
    rare = (1000, 500, 250, 100, 50, 20)
    rarer = {"num_seeds": 5, "num_images": sum(rare), "classes": tuple(zip(rare, OFFSETS, strict=True))}
    two, six = {"tilts": (1.0, -1.0)}, {"tilts": (1.0, -1.0) * 3}
    return [
        Cell("balanced, 2 arms", (0.5,) * 2, **usual, **two),
        Cell("balanced, 6 arms", (0.5,) * 6, **usual, **six),
        Cell("balanced, power, 2 arms, 1 point", (0.5,) * 2, (0.0, -1.0), **usual, **two),
        Cell("balanced, power, 2 arms, 3 points", (0.5,) * 2, (0.0, -3.0), **usual, **two),
        Cell("balanced, 2 arms, 20 images of the rarest class", (0.5,) * 2, **rarer, **two),
        Cell("balanced, 6 arms, 20 images of the rarest class", (0.5,) * 6, **rarer, **six),
    ]


def bar(cell: Cell) -> float:
    """Return the share of studies that may have a false verdict."""
    return 0.075 if len(set(cell.seed_sds)) > 1 and cell.num_seeds < 5 else 0.05


def differences_of(cell: Cell, table: np.ndarray, *, only_complete: bool = False) -> list[Estimate]:
    """Return the differences of all pairs of arms; `only_complete` pairs only arms whose seeds are all common."""
    num_arms, num_seeds, num_images = table.shape
    runs = Runs.of(table.reshape(-1, num_images), strata=cell.strata)
    arms = rows_of(cell)
    result = []
    for a, b in combinations(range(num_arms), 2):
        rows = [[arm * num_seeds + seed for seed in arms[arm]] for arm in (a, b)]
        both = [] if cell.pairing == "unpaired" else sorted({*arms[a]} & {*arms[b]})
        if only_complete and not len(both) == len(arms[a]) == len(arms[b]):
            both = []
        difference = runs.difference(*rows, [(a * num_seeds + seed, b * num_seeds + seed) for seed in both])
        assert difference is not None
        result.append(difference)
    return result


def after(cell: Cell, table: np.ndarray) -> tuple[list[Estimate], list[str]]:
    """Return the differences and verdicts of the package."""
    pairs = list(combinations(range(len(table)), 2))
    differences = moderated(differences_of(cell, table), pairs)
    return differences, [verdict.text for verdict in judge(differences, ROPE)]


class Before(Estimate):
    """A difference by the earlier rule, which drops the seed term where its mean square is below the residual one."""

    @property
    def _posterior(self) -> tuple[float, float]:
        num = self.num_images
        if self.images <= sum(side.rest / side.num_seeds for side in self.sides):
            terms = [(max(side.seed, side.rest) / (side.num_seeds * num), side.degrees) for side in self.sides]
        else:
            terms = [(self.images / num, float(num - 1))]
            for side in self.sides:
                if side.seed > side.rest or side.num_seeds == 2:
                    scale = side.num_seeds * num
                    terms += [(max(side.seed, side.rest) / scale, side.degrees)]
                    terms += [(-side.rest / scale, side.degrees * (num - 1))]
        variance = sum(square for square, _ in terms)
        if variance <= 1e-15:
            return (RULE_OF_THREE / float(special.ndtri(0.975)) / num) ** 2, float(num - 1)
        return variance, satterthwaite(terms)


def before(cell: Cell, table: np.ndarray) -> tuple[list[Estimate], list[str]]:
    """Apply the earlier rule, which shrinks quiet arms toward the family with at most four prior degrees of freedom."""
    pairs = list(combinations(range(len(table)), 2))
    differences = [Before(*vars(one).values()) for one in differences_of(cell, table, only_complete=True)]
    arms = [table[arm, seeds].mean(axis=1, dtype=np.float64) for arm, seeds in enumerate(rows_of(cell))]
    wild = [False] * len(arms)
    if len(arms) > 2:
        variances = np.array([one.var(ddof=1) for one in arms])
        degrees = float(np.mean([len(one) - 1 for one in arms]))
        limit = float(stats.f.ppf(0.995, degrees, degrees * (len(arms) - 1)))
        wild = list(variances > limit * np.median(variances))
    calm = [place for place, (a, b) in enumerate(pairs) if not (wild[a] or wild[b])]
    for num_sides in (1, 2):
        places = [place for place in calm if len(differences[place].sides) == num_sides]
        sides = [side for place in places for side in differences[place].sides]
        fewest = min((side.num_seeds for side in sides), default=0)
        prior = min(4.0, float((len(arms) - sum(wild) - 2) * (fewest - 1)))
        if len(places) < 2 or prior <= 0:
            continue
        family = float(np.mean([side.seed for side in sides]))
        for place in places:
            shrunk = tuple(
                replace(
                    side,
                    seed=(prior * family + side.degrees * side.seed) / (prior + side.degrees),
                    degrees=prior + side.degrees,
                )
                for side in differences[place].sides
            )
            differences[place] = replace(differences[place], sides=shrunk)
    texts = []
    for one, verdict in zip(differences, judge(differences, ROPE), strict=True):
        is_equal = max(one.p_below(ROPE), 1 - one.p_below(-ROPE)) < LEVEL
        texts.append(verdict.text if verdict.text in (BETTER, WORSE) else EQUAL if is_equal else NONE_SHOWN)
    return list(differences), texts


METHODS: dict[str, Callable[[Cell, np.ndarray], tuple[list[Estimate], list[str]]]] = {"before": before, "after": after}


def simulated(cell: Cell, method: str, num_studies: int) -> dict[str, np.ndarray]:
    """Return for each study (rows) and pair (columns): false verdict, detected, equal, covered, width."""
    truth = cell.truth
    first, second = np.array(list(combinations(range(len(truth)), 2))).T
    true = np.round(truth[first] - truth[second], 12)
    result: dict[str, list[np.ndarray]] = {}
    for number in range(num_studies):
        rng = np.random.default_rng([zlib.crc32(cell.name.encode()), number])
        differences, texts = METHODS[method](cell, right(cell, rng))
        verdicts, values = np.array(texts), np.array([one.value for one in differences])
        error = np.array([np.sqrt(one.variance) for one in differences])
        degrees = np.array([one.degrees_of_freedom for one in differences])
        half, simultaneous = (
            special.stdtrit(degrees, 1 - level / 2) * error for level in (0.05, 0.05 / len(differences))
        )
        is_shown = (verdicts == BETTER) | (verdicts == WORSE)
        is_equal = verdicts == EQUAL
        study = {
            "false": (is_shown & (np.sign(values) != np.sign(true))) | (is_equal & (np.abs(true) >= ROPE - 1e-9)),
            "shown": is_shown & (np.sign(values) == np.sign(true)),
            "equal": is_equal,
            "covered": np.abs(values - true) <= half,
            "together": np.abs(values - true) <= simultaneous,
            "width": 200 * half,
        }
        for key, value in study.items():
            result.setdefault(key, []).append(value)
    return {key: np.array(value) for key, value in result.items()} | {"true": true}


def summary(cell: Cell, method: str, num_studies: int) -> dict[str, str | float]:
    """Return one line of the results: shares with their Monte Carlo standard errors."""
    started = time.monotonic()
    outcomes = simulated(cell, method, num_studies)
    wrong = outcomes["false"].any(axis=1)
    low = float(stats.binomtest(int(wrong.sum()), num_studies, alternative="greater").proportion_ci(0.99).low)
    line: dict[str, str | float] = {"cell": cell.name, "method": method, "studies": num_studies}
    line |= {"false": wrong.mean(), "false_error": _error(wrong), "false_low_99": low, "bar": bar(cell)}
    failed = ["false"] if low > bar(cell) else []
    is_noisy = np.array(cell.seed_sds) > min(cell.seed_sds)
    first, second = np.array(list(combinations(range(len(cell.seed_sds)), 2))).T
    kinds = is_noisy[first].astype(int) + is_noisy[second]
    for number, kind in enumerate(KINDS):
        covered = outcomes["covered"][:, kinds == number]
        if covered.size:
            share, error = covered.mean(), _error(covered.mean(axis=1))
            line |= {f"{kind}_coverage": share, f"{kind}_error": error}
            line[f"{kind}_width"] = float(np.median(outcomes["width"][:, kinds == number]))
            failed += [f"{kind} coverage"] if share + 2.326 * error < 0.93 else []
    together = outcomes["together"].all(axis=1)
    line |= {"together": together.mean(), "together_error": _error(together)}
    if (outcomes["true"] != 0).any():
        power = outcomes["shown"][:, outcomes["true"] != 0].mean(axis=1)
        line |= {"power": power.mean(), "power_error": _error(power)}
    line["practically_equal"] = outcomes["equal"].mean()
    return line | {"failed": "; ".join(failed), "seconds": time.monotonic() - started}


def promise(cell: Cell, num_studies: int) -> np.ndarray:
    """Return (studies, 2): the smallest detectable difference of each, and the share of pairs of a next study with it.

    Both are NaN where there is no such difference. The last arm of the next study is worse than all others by the
    smallest detectable difference of the first; each pair is tested at the strictest of Holm's levels.
    """
    num_arms = len(cell.seed_sds)
    pairs = list(combinations(range(num_arms), 2))
    with_last = np.array([last == num_arms - 1 for _, last in pairs])
    step = (
        0.2 if cell.accuracy < 0.99 else 0.05
    )  # few distinct values, because calibrating the truth of each takes time
    result = []
    for number in range(num_studies):
        key = [zlib.crc32(cell.name.encode()), number]
        table = right(cell, np.random.default_rng([*key, 1]))
        design = Design.of(differences_of(cell, table), pairs, accuracy=float(table.mean()))
        smallest = design.smallest_shown(len(rows_of(cell)[0]))
        if smallest is None or smallest > cell.accuracy / 2:
            result.append((np.nan, np.nan))
            continue
        worse = round(round(100 * smallest / step) * step, 3)
        following = replace(cell, differences=(0.0,) * (num_arms - 1) + (-worse,))
        table = right(following, np.random.default_rng([*key, 2]))
        differences = moderated(differences_of(cell, table), pairs)
        shown = np.array([one.p_value() <= design.level and one.value > 0 for one in differences])
        result.append((100 * smallest, shown[with_last].mean()))
    return np.array(result)


def _error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _promises(chosen: Sequence[Cell], num_studies: int, output: str) -> None:
    with open(output, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "studies", "smallest_detectable", "power", "power_error"])
        for cell in chosen:
            promises = promise(cell, num_studies)
            smallest, power = promises[~np.isnan(promises[:, 0])].T
            if len(power) < num_studies / 2:
                print(
                    f"{cell.name}: {num_studies - len(power)} of {num_studies} studies can detect no difference",
                    flush=True,
                )
                continue
            figures = [float(np.median(smallest)), float(power.mean()), _error(power)]
            writer.writerow([cell.name, num_studies, *(f"{value:.4g}" for value in figures)])
            print(f"{cell.name}: {figures[0]:.2f} points, detected in {figures[1]:.1%} +- {figures[2]:.1%}", flush=True)


COLUMNS = (
    *("cell", "method", "studies", "false", "false_error", "false_low_99", "bar", "failed"),
    *(f"{kind}_{what}" for kind in KINDS for what in ("coverage", "error", "width")),
    *("together", "together_error", "power", "power_error", "practically_equal", "seconds"),
)


def main(arguments: Sequence[str]) -> None:
    """Simulate cells, print a line for each, and write them as they finish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="CSV file to write")
    parser.add_argument("--studies", type=int, default=1000, help="number of studies of each cell")
    parser.add_argument("--cells", default="*", help="pattern of cell names, such as 'power*'")
    parser.add_argument("--method", choices=METHODS, default="after")
    parser.add_argument(
        "--promise", action="store_true", help="simulate the power at the smallest detectable difference instead"
    )
    parser.add_argument("--balanced", action="store_true", help="simulate the cells of balanced accuracy instead")
    options = parser.parse_args(arguments)
    available = balanced_cells() if options.balanced else cells()
    chosen = [cell for cell in available if fnmatch.fnmatch(cell.name, options.cells)]
    if options.promise:
        _promises(chosen, options.studies, options.output)
        return
    with open(options.output, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for number, cell in enumerate(chosen, start=1):
            line = summary(cell, options.method, options.studies)
            writer.writerow({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in line.items()})
            file.flush()
            covered = " ".join(
                f"{kind} {line[f'{kind}_coverage']:.1%} ({line[f'{kind}_width']:.2f})"
                for kind in KINDS
                if f"{kind}_coverage" in line
            )
            power = f" power {line['power']:.1%}" if "power" in line else ""
            print(
                f"[{number}/{len(chosen)}] {cell.name}: false {line['false']:.1%} +- {line['false_error']:.1%}, "
                f"covered {covered}, together {line['together']:.1%}{power}, equal {line['practically_equal']:.1%}"
                f" {'FAILED: ' if line['failed'] else ''}{line['failed']}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
