"""A comparison as text: for the terminal, in Markdown, in LaTeX and as JSON."""

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

MAX_ROWS, MAX_LINES = 40, 10  # rows of a table in the terminal, and lines of the notices below it


def _terminal(comparison: Comparison) -> str:
    names, *rows = leaderboard(comparison)
    lines = [*answer(comparison), ""]
    if comparison.effects:
        of_levels = effect_rows(comparison)
        lines += aligned(of_levels[: MAX_ROWS + 1])
        if len(of_levels) > MAX_ROWS + 1:
            lines.append(f"and {len(of_levels) - MAX_ROWS - 1} more differences: see {EFFECTS}")
        lines += ["", *aligned(interaction_rows(comparison)), ""]
    lines += aligned([names, *rows[:MAX_ROWS]])
    if len(rows) > MAX_ROWS:
        lines.append(f"and {len(rows) - MAX_ROWS} more configurations: see {RESULTS}")
    if validated := validation_rows(comparison):
        lines += ["", *aligned(validated[: MAX_ROWS + 1])]
    if differences := unplanned(comparison.notices):
        lines += ["", "Unplanned differences:", *(f"  {line}" for line in first(differences, MAX_LINES))]
    below = [*first(problems(comparison.notices), MAX_LINES), *first(notes(comparison.notices), MAX_LINES)]
    return "\n".join([*lines, "", *below]).rstrip()


def _tables(comparison: Comparison) -> list[Rows]:
    tables = [
        leaderboard(comparison),
        effect_rows(comparison),
        interaction_rows(comparison),
        validation_rows(comparison),
    ]
    return [table for table in tables if table]


def _remarks(comparison: Comparison) -> list[str]:
    differences = [f"unplanned difference: {line}" for line in unplanned(comparison.notices)]
    return [*differences, *problems(comparison.notices), *notes(comparison.notices)]


def _markdown(comparison: Comparison) -> str:
    return "\n\n".join(
        [
            " ".join(answer(comparison)),
            *("\n".join(_piped(table)) for table in _tables(comparison)),
            *_remarks(comparison),
        ]
    )


def _piped(table: Rows) -> list[str]:
    names, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    return [f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows]]


def _latex(comparison: Comparison) -> str:
    tables = "\n\n".join("\n".join(_tabular(table)) for table in _tables(comparison))
    return "\n".join(
        [*(f"% {line}" for line in answer(comparison)), tables, *(f"% {line}" for line in _remarks(comparison))]
    )


def _tabular(table: Rows) -> list[str]:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"±": r"$\pm$", "<": r"$<$"}
    escaped = [["".join(special.get(sign, sign) for sign in cell) for cell in row] for row in table]
    names, *rows = [f"{' & '.join(row)} \\\\" for row in escaped]
    head = [f"\\begin{{tabular}}{{{'l' * len(table[0])}}}", "\\toprule", names, "\\midrule"]
    return [*head, *rows, "\\bottomrule", "\\end{tabular}"]


def _json(comparison: Comparison) -> str:
    tested = {id(arm.chosen): arm.tested for arm in comparison.arms}
    configurations = [
        {
            **configuration.values,
            "seeds": [run.summary.seed for run in configuration.runs],
            "num_failed": configuration.num_failed,
            "val_accuracy": configuration.mean("val_accuracy"),
            "val_accuracy_tta": configuration.mean("val_accuracy_tta"),
            "val_balanced_accuracy_tta": configuration.mean("val_balanced_accuracy_tta"),
            "lr": configuration.mean("lr"),
            comparison.primary: on_test.test_accuracy,
            f"{comparison.primary}_interval": on_test.interval,
            "balanced_accuracy": on_test.balanced_accuracy,
            "test_seeds": [run.summary.seed for run in on_test.runs],
            "gap": on_test.gap,
            "fit_seconds": on_test.mean("fit_seconds"),
            "images_per_second": on_test.mean("images_per_second"),
            "parameters": on_test.mean("parameters"),
            "chosen": id(configuration) in tested,
        }
        for configuration in comparison.configurations
        for on_test in [tested.get(id(configuration), configuration)]
    ]
    on_validation = [
        {
            **{"arm": arm.label, "baseline": comparison.baseline, "tuned_alike": not arm.is_unequal},
            **{
                f"val_{comparison.metric}": arm.accuracy.value,
                f"val_{comparison.metric}_interval": arm.accuracy.interval(),
            },
            **{"val_loss_calibrated": arm.loss.value, "val_loss_calibrated_interval": arm.loss.interval()},
        }
        for arm in comparison.on_validation
    ]
    result = {
        "answer": answer(comparison),
        "unplanned_differences": unplanned(comparison.notices),
        "problems": problems(comparison.notices),
        "notes": notes(comparison.notices),
        "configurations": configurations,
        "on_validation": on_validation,
        "learning_curves": curve_rows(comparison),
        "effects": effects(comparison),
        "interactions": interactions(comparison),
        "marginal_means": [
            {
                **{"factor": mean.factor, "level": mean.level, "metric": metric, "mean": mean.mean},
                **{"low": mean.low, "high": mean.high, "is_matched": mean.is_matched},
            }
            for metric, of_metric in comparison.effects.items()
            for mean in of_metric.means
        ],
        "shares": [
            {"source": share.source, "metric": metric, "fraction": share.fraction}
            for metric, of_metric in comparison.effects.items()
            for share in of_metric.shares
        ],
    }
    return json.dumps(result, indent=2, ensure_ascii=False)


FORMS: dict[str, Callable[[Comparison], str]] = {
    "table": _terminal,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
}
