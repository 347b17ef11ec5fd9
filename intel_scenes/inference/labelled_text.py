"""Text of an evaluation on a labelled folder, for the terminal."""

from collections.abc import Mapping

from intel_scenes.errors import counted, percentage
from intel_scenes.inference.labelled import ClassScores, FolderEvaluation, FolderScores
from intel_scenes.inference.paired import PairedDifference


def evaluation_text(evaluation: FolderEvaluation) -> str:
    """Return all scores of one run, or a line for each of several runs, their mean and their differences."""
    images = counted(evaluation.num_images, f"{evaluation.split} image" if evaluation.split else "image")
    lines = [f"{images} of {evaluation.folder}"]
    if len(evaluation.rows) == 1:
        lines += _in_full(evaluation.rows[0])
    else:
        numbers = [*(str(number + 1) for number in range(len(evaluation.rows) - 1)), " "]
        lines += [f"{number}  {_in_short(row)}" for number, row in zip(numbers, evaluation.rows, strict=True)]
        lines += ["", "Paired differences with 95 % intervals over images, for these trained networks only; to compare"]
        lines += ["configurations, train several seeds and use compare."]
        number_of = {row.name: number for number, row in zip(numbers, evaluation.rows, strict=True)}
        lines += [_difference(pair, number_of) for pair in evaluation.pairs]
    return "\n".join(lines)


def _in_full(row: FolderScores) -> list[str]:
    low, high = map(percentage, row.accuracy_interval)
    width = max(len("class"), *(len(scores.name) for scores in row.classes))
    return [
        row.name,
        f"  accuracy                 {percentage(row.accuracy):>7}   95 % interval {low} to {high}, over images",
        f"  balanced accuracy        {percentage(row.balanced_accuracy):>7}   mean recall of the classes",
        f"  macro F1                 {percentage(row.macro_f1):>7}   mean F1 of the classes",
        f"  negative log-likelihood  {row.loss:6.3f}{_calibrated(row, row.loss_calibrated)}",
        f"  calibration error        {row.ece:6.3f}{_calibrated(row, row.ece_calibrated)}",
        "",
        f"  {'class':{width}}   images  precision   recall       F1",
        *(f"  {scores.name:{width}}  {_of_class(scores)}" for scores in row.classes),
    ]


def _calibrated(row: FolderScores, value: float | None) -> str:
    return "" if value is None else f"   {value:.3f} at the run's temperature {row.temperature:.2f}"


def _of_class(scores: ClassScores) -> str:
    shares = (f"{percentage(value):>7}" for value in (scores.precision, scores.recall, scores.f1))
    return f"{scores.num_images:7,}    {'  '.join(shares)}"


def _in_short(row: FolderScores) -> str:
    low, high = map(percentage, row.accuracy_interval)
    return (
        f"accuracy {percentage(row.accuracy):>7} ({low} to {high})  balanced {percentage(row.balanced_accuracy):>7}  "
        f"macro F1 {percentage(row.macro_f1):>7}  loss {row.loss:.3f}  calibration error {row.ece:.3f}  {row.name}"
    )


def _difference(pair: PairedDifference, numbers: Mapping[str, str]) -> str:
    low, high = (100 * end for end in pair.interval)
    first, second = numbers[pair.first], numbers[pair.second]
    return (
        f"{first} minus {second}  {100 * pair.difference:+6.2f} points ({low:+.2f} to {high:+.2f})  McNemar p = "
        f"{pair.p_value:.2g}; only {first} is correct on {pair.num_first_only:,} images, only {second} on "
        f"{pair.num_second_only:,}"
    )
