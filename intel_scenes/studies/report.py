"""A comparison as a table for the terminal or a paper, and as `results.csv` and `pairwise.csv`."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from intel_scenes import files
from intel_scenes.studies.arms import Arm, Configuration
from intel_scenes.studies.caveats import RATES, at_edge_of_grid
from intel_scenes.studies.collect import Run
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.naming import few
from intel_scenes.studies.pairs import Pair, could_have_shown
from intel_scenes.studies.statistics.verdicts import BETTER, EQUAL, NONE_SHOWN, NOT_TUNED, UNTESTABLE, WORSE

RESULTS, PAIRWISE = "results.csv", "pairwise.csv"
PAIRWISE_COLUMNS = (
    *("a", "b", "metric", "difference", "low", "high", "low_holm", "high_holm", "p_value", "p_holm", "p_better"),
    *("num_seeds_a", "num_seeds_b", "paired", "verdict"),
)
MAX_ROWS, MAX_LINES = 40, 10  # of a table in the terminal, and of what stands under it
Rows = list[list[str]]


def write_results(folder: Path, runs: Sequence[Run]) -> None:
    """Writes one row for each run: what was typed as `override.*`, the flattened keys of its summary, its folder."""
    typed = sorted({key for run in runs for key in run.overrides})
    flat = [files.flatten(asdict(run.summary)) for run in runs]
    keys = list(dict.fromkeys(key for summary in flat for key in summary))
    rows = [
        [*(run.overrides.get(key) for key in typed), *(_cell(summary.get(key)) for key in keys), run.name]
        for run, summary in zip(runs, flat, strict=True)
    ]
    files.write_csv(folder / RESULTS, [*(f"override.{key}" for key in typed), *keys, "run"], rows)


def write_pairwise(found: Comparison) -> None:
    """Writes one row for each pair of arms; fractions, and nothing where a pair cannot be tested."""
    rows = []
    for pair in found.pairs:
        low, high = pair.estimate.interval() if pair.estimate else (None, None)
        holm = pair.adjusted_interval() or (None, None)
        p_values = (pair.verdict.p_value, pair.verdict.p_holm) if pair.verdict else (None, None)
        rows.append(
            [
                *(pair.a, pair.b, "test_accuracy", pair.difference, low, high, *holm, *p_values, pair.p_better[0]),
                *(*pair.num_seeds, pair.is_paired, pair.text),
            ]
        )
    for one in found.on_validation:
        for metric, estimate in (("val_accuracy", one.accuracy), ("val_loss_calibrated", one.loss)):
            interval = (estimate.value, *estimate.interval())
            rest = [*one.num_seeds, one.is_paired, None]
            rows.append(
                [one.label, found.baseline, metric, *interval, None, None, estimate.p_value(), None, None, *rest]
            )
    files.write_csv(found.folder / PAIRWISE, PAIRWISE_COLUMNS, rows)


def leaderboard(found: Comparison) -> Rows:
    """A row for each configuration under a row of names, best validation accuracy first."""
    verdicts = {pair.a: pair.text for pair in found.to_reference()}
    arm_of = {id(arm.chosen): arm for arm in found.arms}
    has_devices = len({device for one in found.configurations for device in one.devices}) > 1
    has_tta = any(run.has_tta and run.views != 1 for run in found.runs)
    chosen_by = "val % (TTA)" if has_tta else "valid %"
    names = [*found.factors, *(["trials"] if found.tuned else []), "seeds", chosen_by, "test %", "test interval", "gap"]
    names += [
        "minutes",
        "images/s",
        *(["device"] if has_devices else []),
        "parameters",
        f"against {_reference(found)}" if found.arms else "",
    ]
    rows = [names]
    for one in found.configurations:
        arm = arm_of.get(id(one))
        is_timed = len(one.devices) == 1
        cells = [
            *one.values.values(),
            *([str(len(arm.tried)) if arm else ""] if found.tuned else []),
            f"{len(one.runs)}" + (f" ({one.num_failed} failed)" if one.num_failed else ""),
            _over_seeds(one, lambda run: run.val_accuracy, 100),
            f"{100 * one.test_accuracy:.1f}",
            "" if one.interval is None else f"{100 * one.interval[0]:.1f} to {100 * one.interval[1]:.1f}",
            _number(one.gap, "+.1f", 100),
            _over_seeds(one, lambda run: run.summary.fit_seconds, 1 / 60) if is_timed else "",
            _number(one.mean("images_per_second") if is_timed else None, ".0f"),
            *([" / ".join(one.devices)] if has_devices else []),
            _number(one.mean("parameters"), ",.0f"),
            "-" if arm is None else _reference(found) if arm.label == found.reference else verdicts.get(arm.label, ""),
        ]
        rows.append(cells)
    return rows


def validation_rows(found: Comparison) -> Rows:
    """What each arm is against the baseline on validation, under a row of names; empty where no baseline was named."""
    if not found.on_validation:
        return []
    rows = [[f"against {found.baseline} on validation", "points of accuracy", "loss, calibrated"]]
    for one in found.on_validation:
        (low, high), (least, most) = one.accuracy.interval(), one.loss.interval()
        accuracy = f"{points(one.accuracy.value)} ({points(low)} to {points(high)})"
        label = f"{one.label} (not tuned alike)" if one.is_unequal else one.label
        rows.append([label, accuracy, f"{one.loss.value:+.3f} ({least:+.3f} to {most:+.3f})"])
    return rows


def _reference(found: Comparison) -> str:
    return "the leader" if found.is_to_leader else f"baseline {found.reference}"


def answer(found: Comparison) -> list[str]:
    """What the study shows, in two sentences, with its doubt."""
    if not found.arms:
        return ["No run is completed, so there is nothing to compare yet."]
    gaps = [f"But {'; '.join(found.gaps[:3])}."] if found.gaps else []
    leader = found.arms[0]
    if len(found.arms) == 1 and found.tuned:
        return [_best(found), f"{_accuracies(found)}.", *gaps]
    tied = [arm.label for arm in found.arms[1:] if arm.chosen.val_accuracy == leader.chosen.val_accuracy]
    accuracy = f"{100 * leader.chosen.val_accuracy:.1f} %"
    lead = f"{leader.label} leads on validation ({accuracy}{_corrected(found)})"
    if tied:
        lead = f"{few([leader.label, *tied])} tie for the lead on validation ({accuracy}), of which {leader.label}"
    right = f"{100 * leader.chosen.test_accuracy:.1f} % of the test images right{_interval(leader.chosen)}"
    first = f"{lead} has {right}." if tied else f"{lead} and has {right}."
    others = _others(found) if len(found.arms) > 1 else "There is only this one, so nothing to compare it with."
    rates = [_best(found)] if set(found.tuned) & set(RATES) else []
    return [first, others, *rates, *gaps]


def _best(found: Comparison) -> str:
    """The tuned values that validation chose, for each arm where there are several."""
    is_rate = bool(set(found.tuned) & set(RATES))
    parts = [_chosen(found, arm) for arm in found.arms]
    if len(found.arms) > 1:
        parts = [f"{arm.label} {part}" for arm, part in zip(found.arms, parts, strict=True)]
    left = len(parts) - MAX_LINES
    more = [f"and {left} more"] if left > 0 else []
    return f"best {'learning rate' if is_rate else 'by validation'}: {'; '.join([*parts[:MAX_LINES], *more])}."


def _chosen(found: Comparison, arm: Arm) -> str:
    """The best values of the tuned factors of an arm, and whether they lie at the edge of what was tried.

    The rate is that of the record, which lr_scale and lr_scaling have multiplied.
    """
    lr = arm.chosen.mean("lr") if set(found.tuned) & set(RATES) else None
    typed = [f"{key}={arm.chosen.values[key]}" for key in found.tuned if lr is None or key != "optim.lr"]
    text = ", ".join(typed)
    if lr is not None:
        text = f"optim.lr={lr:.3g}" + (f" ({text})" if typed else "")
    ties = [
        ", ".join(f"{key}={one.values[key]}" for key in found.tuned)
        for one in arm.configurations[1:]
        if (len(one.runs), one.val_accuracy) == (len(arm.chosen.runs), arm.chosen.val_accuracy)
    ]
    edges = [(key, at_edge_of_grid(arm, key, found.plan.searched.get(key))) for key in found.tuned]
    told = [advice if len(found.tuned) == 1 else f"{key} {advice}" for key, advice in edges if advice]
    return ", ".join([text, *([f"tied with {few(ties)}"] if ties else []), *told])


def _accuracies(found: Comparison) -> str:
    """Validation and test accuracy of the leader."""
    leader = found.arms[0].chosen
    cross_validated = ""
    if found.corrected is not None:
        cross_validated = f" ({100 * found.corrected:.1f} % with the choice made on the other seeds)"
    return (
        f"Validation accuracy {100 * leader.val_accuracy:.1f} %{cross_validated}, "
        f"test accuracy {100 * leader.test_accuracy:.1f} %{_interval(leader)}"
    )


def _corrected(found: Comparison) -> str:
    if found.corrected is not None:
        return f"; {100 * found.corrected:.1f} % where each seed is read by the choice of the others"
    if len(found.arms) > 1 and len(found.arms[0].chosen.runs) == 1:
        return "; what it owes to being chosen cannot be estimated from one seed"
    return ""


def _interval(one: Configuration) -> str:
    if one.interval is None:
        return ""
    over = "seeds and images" if one.estimate else "images alone"
    return f" (95 % interval over {over}: {100 * one.interval[0]:.1f} to {100 * one.interval[1]:.1f} %)"


WORDS = {
    BETTER: "shown to be better than",
    WORSE: "shown to be worse than",
    EQUAL: "practically equal to",
    NONE_SHOWN: "not shown to differ from",
    UNTESTABLE: "not to be told from",
    NOT_TUNED: "not comparable (tuned unequally) with",
}


def _others(found: Comparison) -> str:
    """What the other arms are against the reference, those alike together."""
    reference = "it" if found.is_to_leader else f"baseline {found.reference}"
    groups: dict[str, list[Pair]] = {}
    for pair in found.to_reference():
        groups.setdefault(pair.text, []).append(pair)
    if not groups:
        return "Without predictions of its runs nothing can be tested."
    parts = []
    for text, pairs in groups.items():
        verb = "is" if len(pairs) == 1 else "are"
        margin = _margin(pairs[0]) if len(pairs) == 1 else ""
        seeds = " with one seed" if text == UNTESTABLE else ""
        parts.append(f"{few([pair.a for pair in pairs])} {verb} {WORDS[text]} {reference}{seeds}{margin}")
    return "On the test images " + "; ".join(parts) + "."


def _margin(pair: Pair) -> str:
    """The difference with the interval that goes with its verdict."""
    if (interval := pair.adjusted_interval()) is None:
        return ""
    low, high = interval
    return f" ({points(pair.difference)} points, {points(low)} to {points(high)} for all pairs together)"


def points(difference: float) -> str:
    """A difference in points, `+0.0` for what rounds to nothing."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"


def could_have(found: Comparison) -> list[str]:
    """For those that are not shown to differ from the reference: what the study could have shown."""
    has_baseline = found.baseline is not None
    close = [pair for pair in found.to_reference() if pair.text == NONE_SHOWN]
    told = [(pair, could_have_shown(pair, has_baseline=has_baseline)) for pair in close]
    return [f"{pair.a} against {pair.b}: {text}" for pair, text in told if text]


def _terminal(found: Comparison) -> str:
    names, *rows = leaderboard(found)
    left = len(rows) - MAX_ROWS
    lines = [*answer(found), "", *aligned([names, *rows[:MAX_ROWS]])]
    if left > 0:
        lines.append(f"and {left} more configurations: see {RESULTS}")
    if validated := validation_rows(found):
        lines += ["", *aligned(validated[: MAX_ROWS + 1])]
    return "\n".join([*lines, "", *_first(found.problems), *could_have(found)[:1], *_first(found.notes)]).rstrip()


def _first(lines: Sequence[str]) -> list[str]:
    left = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], *([f"({left} more such lines: see the report)"] if left > 0 else [])]


def aligned(rows: Rows) -> list[str]:
    """Rows as lines with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _markdown(found: Comparison) -> str:
    lines = _piped(leaderboard(found))
    if validated := validation_rows(found):
        lines += ["", *_piped(validated)]
    return "\n".join([*lines, *(f"\n{line}" for line in found.problems)])


def _piped(table: Rows) -> list[str]:
    names, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    return [f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows]]


def _latex(found: Comparison) -> str:
    lines = _tabular(leaderboard(found))
    if validated := validation_rows(found):
        lines += ["", *_tabular(validated)]
    return "\n".join([*lines, *(f"% {line}" for line in found.problems)])


def _tabular(table: Rows) -> list[str]:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"±": r"$\pm$"}
    escaped = [["".join(special.get(sign, sign) for sign in cell) for cell in row] for row in table]
    names, *rows = [f"{' & '.join(row)} \\\\" for row in escaped]
    head = [f"\\begin{{tabular}}{{{'l' * len(table[0])}}}", "\\toprule", names, "\\midrule"]
    return [*head, *rows, "\\bottomrule", "\\end{tabular}"]


def _json(found: Comparison) -> str:
    chosen = {id(arm.chosen) for arm in found.arms}
    configurations = [
        {
            **one.values,
            "seeds": [run.summary.seed for run in one.runs],
            "num_failed": one.num_failed,
            "val_accuracy": one.mean("val_accuracy"),
            "val_accuracy_tta": one.mean("val_accuracy_tta"),
            "lr": one.mean("lr"),
            "test_accuracy": one.test_accuracy,
            "test_accuracy_interval": one.interval,
            "balanced_accuracy": one.balanced_accuracy,
            "gap": one.gap,
            "fit_seconds": one.mean("fit_seconds"),
            "images_per_second": one.mean("images_per_second"),
            "parameters": one.mean("parameters"),
            "chosen": id(one) in chosen,
        }
        for one in found.configurations
    ]
    on_validation = [
        {
            **{"arm": one.label, "baseline": found.baseline, "tuned_alike": not one.is_unequal},
            **{"val_accuracy": one.accuracy.value, "val_accuracy_interval": one.accuracy.interval()},
            **{"val_loss_calibrated": one.loss.value, "val_loss_calibrated_interval": one.loss.interval()},
        }
        for one in found.on_validation
    ]
    said = {"answer": answer(found), "notes": found.notes, "problems": found.problems}
    figures = {"configurations": configurations, "on_validation": on_validation}
    return json.dumps(said | figures, indent=2, ensure_ascii=False)


def _over_seeds(one: Configuration, value: Callable[[Run], float | None], factor: float) -> str:
    values = [factor * known for run in one.runs if (known := value(run)) is not None]
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return "" if value is None else format(factor * value, form)


def _cell(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\n", "\\n")  # of a traceback: a row stays a line
    return json.dumps(value) if isinstance(value, list | tuple) else value


FORMS: dict[str, Callable[[Comparison], str]] = {
    "table": _terminal,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}
