"""Which backbone is best at equal epochs or minutes, alone and in a mean of different networks?

`python -m results.backbones.analyse STUDY OUTPUT` reads a study of backbones with the same seeds and writes `means.csv`
into OUTPUT. For each seed it averages the class probabilities of every set of backbones. The best backbone and the best
mean of several are chosen by validation accuracy, averaged over seeds (ties: by the lower cross entropy). Only then is
the test split read, for the single backbones and for the chosen mean, with intervals over seeds and images.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intel_scenes import files
from intel_scenes.errors import UserError
from intel_scenes.record import Predictions
from intel_scenes.studies.load import Run, load
from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.estimates import Estimate
from results import analysis

Array = npt.NDArray[np.float64]
Networks = Mapping[str, Mapping[int, Run]]  # runs by seed, by the name of the backbone
Names = tuple[str, ...]
BEST_SINGLE, BEST_MEAN = "best single", "best mean"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Row of `means.csv`; fractions of the images, cross entropy in nats, test results empty where they were not read.

    Attributes:
        members: Names of the averaged backbones.
        num_seeds: Number of seeds.
        val_accuracy: Mean over seeds.
        val_loss: Mean over seeds.
        chosen: `best single`, `best mean`, or empty.
        test_accuracy: Mean over seeds.
        low: Lower end of its 95 % interval over seeds and images.
        high: Its upper end.
        over_single: Test accuracy minus that of the best single backbone, paired over seeds and images.
        over_low: Lower end of its 95 % interval.
        over_high: Its upper end.
    """

    members: str
    num_seeds: int
    val_accuracy: float
    val_loss: float
    chosen: str = ""
    test_accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    over_single: float | None = None
    over_low: float | None = None
    over_high: float | None = None


def networks_of(study: Path) -> Networks:
    """Return the backbones of a study.

    Raises:
        UserError: A seed has two runs of a backbone, or backbones have different seeds or fewer than two of them.
    """
    by_name: dict[str, dict[int, Run]] = {}
    for run in load(study).runs:
        of_name = by_name.setdefault(run.summary.model_name or "", {})
        seed = run.summary.seed or 0
        if seed in of_name:
            raise UserError(f"{run.folder} and {of_name[seed].folder} are the same backbone and seed: move one away")
        of_name[seed] = run
    seeds = {name: sorted(runs) for name, runs in by_name.items()}
    if len(set(map(tuple, seeds.values()))) != 1 or len(next(iter(seeds.values()))) < 2:
        raise UserError(f"{study} needs the same two seeds or more for each backbone, it has {seeds}")
    return dict(sorted(by_name.items()))


@dataclass(frozen=True)
class Predicted:
    """What the runs of a study predict for one split.

    Attributes:
        probabilities: (seeds, images, classes) of each backbone.
        labels: (images,) true classes.
    """

    probabilities: Mapping[str, Array]
    labels: npt.NDArray[np.int64]

    @classmethod
    def read(cls, networks: Networks, split: str) -> "Predicted":
        """Read the predictions of all runs.

        Raises:
            UserError: The runs were evaluated on different images.
        """
        loaded = {
            name: [Predictions.read(run.folder, split) for _, run in sorted(runs.items())]
            for name, runs in networks.items()
        }
        first_name, (first, *_) = next(iter(loaded.items()))
        for name, of_name in loaded.items():
            if any(predictions.paths != first.paths for predictions in of_name):
                raise UserError(
                    f"the {split} images of {name} are not those of {first_name}: train them on the same images"
                )
        return cls({name: np.stack([run.probabilities for run in runs]) for name, runs in loaded.items()}, first.labels)

    def mean(self, names: Names) -> Array:
        """Return the mean probabilities of several backbones, (seeds, images, classes)."""
        average: Array = np.mean([self.probabilities[name] for name in names], axis=0)
        return average

    def correct(self, names: Names) -> npt.NDArray[np.bool_]:
        """Return which images the mean of several backbones classifies correctly, (seeds, images)."""
        right: npt.NDArray[np.bool_] = self.mean(names).argmax(axis=2) == self.labels
        return right


def validated(val: Predicted, names: Names) -> tuple[float, float]:
    """Return validation accuracy and cross entropy of the mean of backbones, averaged over seeds."""
    of_label = val.mean(names)[:, np.arange(len(val.labels)), val.labels]
    return float(val.correct(names).mean()), float(-np.log(of_label.clip(np.finfo(np.float32).tiny)).mean())


def rows_of(networks: Networks) -> list[Row]:
    """Return a row for each set of backbones, single ones first."""
    sets = [names for size in range(1, len(networks) + 1) for names in itertools.combinations(networks, size)]
    val = Predicted.read(networks, "val")
    validation = {names: validated(val, names) for names in sets}

    def best(of_sets: Sequence[Names]) -> Names:
        return min(of_sets, key=lambda names: (-validation[names][0], validation[names][1]))

    singles, several = [names for names in sets if len(names) == 1], [names for names in sets if len(names) > 1]
    chosen = {best(singles): BEST_SINGLE} | ({best(several): BEST_MEAN} if several else {})
    looked_at = [*singles, *(names for names in several if names in chosen)]
    tested = dict(zip(looked_at, _tested(networks, looked_at, best(singles)), strict=True))
    return [
        Row(
            members=" + ".join(names),
            num_seeds=len(networks[names[0]]),
            val_accuracy=accuracy,
            val_loss=loss,
            chosen=chosen.get(names, ""),
            **tested.get(names, {}),
        )
        for names, (accuracy, loss) in validation.items()
    ]


def _tested(networks: Networks, sets: Sequence[Names], single: Names) -> list[dict[str, float]]:
    """Return the test results of sets of backbones, and their differences from the best single one."""
    test = Predicted.read(networks, "test")
    runs, rows = Runs.stacked([test.correct(names) for names in sets])
    reference = rows[sets.index(single)]
    results = []
    for of_set in rows:
        result = _interval("test_accuracy", "", runs.mean(of_set))
        if of_set != reference:
            result |= _interval("over_single", "over_", runs.paired_difference(of_set, reference))
        results.append(result)
    return results


def _interval(name: str, prefix: str, estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval()
    return {name: estimate.value, f"{prefix}low": low, f"{prefix}high": high}


def sentence(row: Row) -> str:
    """Return a row in words."""
    text = f"{row.members}: validation {row.val_accuracy:.2%}, cross entropy {row.val_loss:.3f}"
    if row.test_accuracy is not None:
        text += f"; test {row.test_accuracy:.2%} ({row.low:.2%} to {row.high:.2%})"
    if row.over_single is not None:
        points = [f"{100 * (value or 0):+.2f}" for value in (row.over_single, row.over_low, row.over_high)]
        text += f", {points[0]} points ({points[1]} to {points[2]}) over the best single one"
    return f"{text}; {row.chosen}" if row.chosen else text


def main(arguments: Sequence[str]) -> None:
    """Choose the best backbone and the best mean on validation, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="study folder with runs of several backbones, with predictions.csv")
    parser.add_argument("output", type=Path, help="folder for means.csv")
    options = parser.parse_args(arguments)
    rows = rows_of(networks_of(options.study))
    files.write_csv(options.output / "means.csv", [field.name for field in fields(Row)], map(astuple, rows))
    print("\n".join(map(sentence, rows)))


if __name__ == "__main__":
    analysis.run(main)
