"""A comparison in the terminal, as tables for a paper, and as JSON."""

import json
from collections.abc import Callable

from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.csv_files import EFFECTS, RESULTS, effects, interactions
from intel_scenes.studies.render.learning_curves import curve_rows
from intel_scenes.studies.render.sentences import notes, problems, unplanned
from intel_scenes.studies.render.tables import (
    Rows,
    aligned,
    effect_rows,
    first,
    interaction_rows,
    leaderboard,
    validation_rows,
)

MAX_ROWS, MAX_LINES = 40, 10  # of a table in the terminal, and of what stands under it


def _terminal(found: Comparison) -> str:
    names, *rows = leaderboard(found)
    lines = [*answer(found), ""]
    if found.effects:
        of_levels = effect_rows(found)
        lines += aligned(of_levels[: MAX_ROWS + 1])
        if len(of_levels) > MAX_ROWS + 1:
            lines.append(f"and {len(of_levels) - MAX_ROWS - 1} more differences: see {EFFECTS}")
        lines += ["", *aligned(interaction_rows(found)), ""]
    lines += aligned([names, *rows[:MAX_ROWS]])
    if len(rows) > MAX_ROWS:
        lines.append(f"and {len(rows) - MAX_ROWS} more configurations: see {RESULTS}")
    if validated := validation_rows(found):
        lines += ["", *aligned(validated[: MAX_ROWS + 1])]
    if differences := unplanned(found.notices):
        lines += ["", "Unplanned differences:", *(f"  {line}" for line in first(differences, MAX_LINES))]
    below = [*first(problems(found.notices), MAX_LINES), *first(notes(found.notices), MAX_LINES)]
    return "\n".join([*lines, "", *below]).rstrip()


def _tables(found: Comparison) -> list[Rows]:
    tables = [leaderboard(found), effect_rows(found), interaction_rows(found), validation_rows(found)]
    return [table for table in tables if table]


def _remarks(found: Comparison) -> list[str]:
    differences = [f"unplanned difference: {line}" for line in unplanned(found.notices)]
    return [*differences, *problems(found.notices), *notes(found.notices)]


def _markdown(found: Comparison) -> str:
    return "\n\n".join(
        [" ".join(answer(found)), *("\n".join(_piped(table)) for table in _tables(found)), *_remarks(found)]
    )


def _piped(table: Rows) -> list[str]:
    names, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    return [f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows]]


def _latex(found: Comparison) -> str:
    tables = "\n\n".join("\n".join(_tabular(table)) for table in _tables(found))
    return "\n".join([*(f"% {line}" for line in answer(found)), tables, *(f"% {line}" for line in _remarks(found))])


def _tabular(table: Rows) -> list[str]:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"±": r"$\pm$", "<": r"$<$"}
    escaped = [["".join(special.get(sign, sign) for sign in cell) for cell in row] for row in table]
    names, *rows = [f"{' & '.join(row)} \\\\" for row in escaped]
    head = [f"\\begin{{tabular}}{{{'l' * len(table[0])}}}", "\\toprule", names, "\\midrule"]
    return [*head, *rows, "\\bottomrule", "\\end{tabular}"]


def _json(found: Comparison) -> str:
    tested = {id(arm.chosen): arm.tested for arm in found.arms}
    configurations = [
        {
            **one.values,
            "seeds": [run.summary.seed for run in one.runs],
            "num_failed": one.num_failed,
            "val_accuracy": one.mean("val_accuracy"),
            "val_accuracy_tta": one.mean("val_accuracy_tta"),
            "val_balanced_accuracy_tta": one.mean("val_balanced_accuracy_tta"),
            "lr": one.mean("lr"),
            found.primary: on_test.test_accuracy,
            f"{found.primary}_interval": on_test.interval,
            "balanced_accuracy": on_test.balanced_accuracy,
            "test_seeds": [run.summary.seed for run in on_test.runs],
            "gap": on_test.gap,
            "fit_seconds": on_test.mean("fit_seconds"),
            "images_per_second": on_test.mean("images_per_second"),
            "parameters": on_test.mean("parameters"),
            "chosen": id(one) in tested,
        }
        for one in found.configurations
        for on_test in [tested.get(id(one), one)]
    ]
    on_validation = [
        {
            **{"arm": one.label, "baseline": found.baseline, "tuned_alike": not one.is_unequal},
            **{f"val_{found.metric}": one.accuracy.value, f"val_{found.metric}_interval": one.accuracy.interval()},
            **{"val_loss_calibrated": one.loss.value, "val_loss_calibrated_interval": one.loss.interval()},
        }
        for one in found.on_validation
    ]
    said = {
        "answer": answer(found),
        "unplanned_differences": unplanned(found.notices),
        "problems": problems(found.notices),
        "notes": notes(found.notices),
    }
    figures = {"configurations": configurations, "on_validation": on_validation}
    of_factors = {
        "learning_curves": curve_rows(found),
        "effects": effects(found),
        "interactions": interactions(found),
        "marginal_means": [
            {
                **{"factor": one.factor, "level": one.level, "metric": metric, "mean": one.mean},
                **{"low": one.low, "high": one.high, "is_matched": one.is_matched},
            }
            for metric, of_metric in found.effects.items()
            for one in of_metric.means
        ],
        "shares": [
            {"source": one.source, "metric": metric, "fraction": one.fraction}
            for metric, of_metric in found.effects.items()
            for one in of_metric.shares
        ],
    }
    return json.dumps(said | figures | of_factors, indent=2, ensure_ascii=False)


FORMS: dict[str, Callable[[Comparison], str]] = {
    "table": _terminal,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}
