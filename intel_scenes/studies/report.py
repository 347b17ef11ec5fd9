"""A comparison as a table for the terminal or a paper, and as `results.csv` and `pairwise.csv`."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from intel_scenes import record
from intel_scenes.studies.arms import Configuration, few
from intel_scenes.studies.collect import Run
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.pairs import against, could_have_shown
from intel_scenes.studies.statistics.verdicts import EQUAL, NONE_SHOWN

RESULTS, PAIRWISE = "results.csv", "pairwise.csv"
PAIRWISE_COLUMNS = (
    *("a", "b", "metric", "difference", "low", "high", "low_holm", "high_holm", "p_value", "p_holm", "p_better"),
    *("num_seeds_a", "num_seeds_b", "paired", "verdict"),
)
MAX_ROWS = 40  # of a table in the terminal
Rows = list[list[str]]


def write_results(folder: Path, runs: Sequence[Run]) -> None:
    """Writes one row for each run: what was typed as `override.*`, the flattened keys of its summary, its folder."""
    typed = sorted({key for run in runs for key in run.overrides})
    flat = [record.flatten(run.summary) for run in runs]
    keys = list(dict.fromkeys(key for summary in flat for key in summary))
    rows = [
        [*(run.overrides.get(key) for key in typed), *(_cell(summary.get(key)) for key in keys), run.name]
        for run, summary in zip(runs, flat, strict=True)
    ]
    record.write_csv(folder / RESULTS, [*(f"override.{key}" for key in typed), *keys, "run"], rows)


def write_pairwise(found: Comparison) -> None:
    """Writes one row for each pair of arms; fractions, and nothing where a pair cannot be tested."""
    rows = []
    for pair in found.pairs:
        low, high = pair.estimate.interval() if pair.estimate else (None, None)
        holm = pair.estimate.interval(1 - pair.verdict.level_holm) if pair.estimate and pair.verdict else (None, None)
        p_values = (pair.verdict.p_value, pair.verdict.p_holm) if pair.verdict else (None, None)
        rows.append(
            [
                *(pair.a, pair.b, "test_accuracy", pair.difference, low, high, *holm, *p_values, pair.p_better[0]),
                *(*pair.num_seeds, pair.is_paired, pair.text),
            ]
        )
    record.write_csv(found.folder / PAIRWISE, PAIRWISE_COLUMNS, rows)


def leaderboard(found: Comparison) -> Rows:
    """A row for each configuration under a row of names, best validation accuracy first."""
    verdicts = against(found.pairs, found.arms[0].label) if found.arms else {}
    arm_of = {id(arm.chosen): arm.label for arm in found.arms}
    devices = {str(run.summary["device"]) for run in found.runs}
    names = [*found.factors, "seeds", "valid %", "test %", "test interval", "gap", "minutes", "images/s"]
    rows = [[*names, *(["device"] if len(devices) > 1 else []), "parameters", "against the leader"]]
    for one in found.configurations:
        label = arm_of.get(id(one))
        verdict = "-" if label is None else "leader" if label == found.arms[0].label else verdicts.get(label, "")
        seeds = f"{len(one.runs)}" + (f" ({one.num_failed} failed)" if one.num_failed else "")
        cells = [
            *one.values.values(),
            seeds,
            _over_seeds(one, lambda run: 100 * run.summary["val_accuracy"]),
            f"{100 * one.test_accuracy:.1f}",
            "" if one.interval is None else f"{100 * one.interval[0]:.1f} to {100 * one.interval[1]:.1f}",
            f"{100 * one.gap:+.1f}",
            _over_seeds(one, lambda run: run.summary["fit_seconds"] / 60),
            _number(one.mean("images_per_second"), ".0f"),
        ]
        if len(devices) > 1:
            cells.append(" / ".join(sorted({str(run.summary["device"]) for run in one.runs})))
        rows.append([*cells, _number(one.mean("parameters"), ",.0f"), verdict])
    return rows


def answer(found: Comparison) -> list[str]:
    """What the study shows, in two sentences, with its doubt."""
    if not found.arms:
        return ["No run is completed, so there is nothing to compare yet."]
    leader = found.arms[0]
    first = (
        f"{leader.label} leads on validation ({100 * leader.chosen.val_accuracy:.1f} %{_corrected(found)}) and has "
        f"{100 * leader.chosen.test_accuracy:.1f} % of the test images right{_interval(leader.chosen)}."
    )
    if len(found.arms) == 1:
        return [first, "There is only this one, so nothing to compare it with."]
    return [first, _others(found)]


def _corrected(found: Comparison) -> str:
    if found.corrected is None:
        return "; what it owes to being chosen cannot be estimated from one seed"
    return f", {100 * found.corrected:.1f} % without the advantage of having been chosen"


def _interval(one: Configuration) -> str:
    if one.interval is None:
        return ""
    over = "seeds and images" if one.estimate else "images alone"
    return f" (95 % interval over {over}: {100 * one.interval[0]:.1f} to {100 * one.interval[1]:.1f} %)"


def _others(found: Comparison) -> str:
    leader = found.arms[0].label
    verdicts = against(found.pairs, leader)
    groups: dict[str, list[str]] = {}
    for arm in found.arms[1:]:
        groups.setdefault(verdicts.get(arm.label) or "not compared", []).append(arm.label)
    words = {
        "worse": "shown to be worse",
        "better": "shown to be better",
        EQUAL: "practically equal to it",
        NONE_SHOWN: "not shown to differ from it",
        "untestable": "untestable with the seeds that are there",
        "not tuned": "not comparable, because the tuning was unequal",
    }
    parts = []
    for text, labels in groups.items():
        shown = few(labels)
        parts.append(f"{shown} {'is' if len(labels) == 1 else 'are'} {words.get(text, text)}{_margin(found, labels)}")
    return "On the test images " + "; ".join(parts) + "."


def _margin(found: Comparison, labels: Sequence[str]) -> str:
    """The difference to the leader, where one arm alone is meant."""
    pairs = [pair for pair in found.pairs if {pair.a, pair.b} == {found.arms[0].label, labels[0]}]
    if len(labels) > 1 or not pairs or pairs[0].estimate is None:
        return ""
    pair = pairs[0]
    assert pair.estimate is not None
    sign = 1 if pair.b == labels[0] else -1
    bounds = sorted(100 * sign * bound for bound in pair.estimate.interval())
    return f" ({100 * sign * pair.difference:+.1f} points for the leader, {bounds[0]:+.1f} to {bounds[1]:+.1f})"


def could_have(found: Comparison) -> list[str]:
    """For the first few that are not shown to differ from the leader: what the study could have shown."""
    leader = found.arms[0].label if found.arms else ""
    close = [pair for pair in found.pairs if pair.text == NONE_SHOWN and leader in (pair.a, pair.b)]
    shown = [could_have_shown(pair, len(found.arms), has_baseline=found.baseline is not None) for pair in close[:3]]
    return [f"{pair.a} and {pair.b}: {text}" for pair, text in zip(close, shown, strict=False)]


def _terminal(found: Comparison) -> str:
    names, *rows = leaderboard(found)
    left = len(rows) - MAX_ROWS
    lines = [*answer(found), "", *aligned([names, *rows[:MAX_ROWS]])]
    if left > 0:
        lines.append(f"and {left} configurations more: see {RESULTS}")
    return "\n".join([*lines, "", *could_have(found), *found.notes[:12], *found.problems]).rstrip()


def aligned(rows: Rows) -> list[str]:
    """Rows as lines with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _markdown(found: Comparison) -> str:
    names, *rows = [[cell.replace("|", "\\|") for cell in row] for row in leaderboard(found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])


def _latex(found: Comparison) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"±": r"$\pm$"}
    names, *rows = [["".join(special.get(sign, sign) for sign in cell) for cell in row] for row in leaderboard(found)]
    lines = [f"{' & '.join(row)} \\\\" for row in [names, *rows]]
    head = [f"\\begin{{tabular}}{{{'l' * len(names)}}}", "\\toprule", lines[0], "\\midrule"]
    return "\n".join([*head, *lines[1:], "\\bottomrule", "\\end{tabular}"])


def _json(found: Comparison) -> str:
    configurations = [
        {
            **one.values,
            "seeds": [run.summary["seed"] for run in one.runs],
            "num_failed": one.num_failed,
            "val_accuracy": one.val_accuracy,
            "test_accuracy": one.test_accuracy,
            "test_accuracy_interval": one.interval,
            "balanced_accuracy": one.balanced_accuracy,
            "gap": one.gap,
            "fit_seconds": one.mean("fit_seconds"),
            "images_per_second": one.mean("images_per_second"),
            "parameters": one.mean("parameters"),
            "chosen": one.is_chosen,
        }
        for one in found.configurations
    ]
    said = {"answer": answer(found), "notes": found.notes, "problems": found.problems}
    return json.dumps(said | {"configurations": configurations}, indent=2, ensure_ascii=False)


def _over_seeds(one: Configuration, value: Callable[[Run], float]) -> str:
    values = [value(run) for run in one.runs]
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _cell(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\n", "\\n")  # of a traceback: a row stays a line
    return json.dumps(value) if isinstance(value, list) else value


FORMS: dict[str, Callable[[Comparison], str]] = {
    "table": _terminal,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}
