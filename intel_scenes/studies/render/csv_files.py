"""The tables of a comparison as CSV files beside its runs: fractions, and nothing where a value cannot be known."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intel_scenes import files
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.load import Run
from intel_scenes.studies.render.learning_curves import curve_columns, curve_rows

RESULTS, PAIRWISE, EFFECTS, INTERACTIONS = "results.csv", "pairwise.csv", "effects.csv", "interactions.csv"
PAIRWISE_COLUMNS = (
    *("a", "b", "metric", "difference", "low", "high", "low_holm", "high_holm", "p_value", "p_holm", "p_better"),
    *("num_seeds_a", "num_seeds_b", "paired", "verdict", "low_bonferroni", "high_bonferroni"),
)
LEARNING_CURVE = "learning_curve.csv"
EFFECTS_COLUMNS = (
    *("factor", "level", "against", "within", "metric", "difference", "low", "high", "p", "p_holm", "verdict"),
    *("num_cells", "num_runs", "low_holm", "high_holm"),
)
INTERACTIONS_COLUMNS = ("factors", "metric", "statistic", "df", "p", "p_holm")


def write_all(found: Comparison) -> None:
    """Writes the tables of a comparison into its folder; those of effects and curves where there are any."""
    write_results(found.folder, found.study.all_runs)
    files.write_csv(found.folder / PAIRWISE, PAIRWISE_COLUMNS, pairwise(found))
    for name, columns, rows in (
        (EFFECTS, EFFECTS_COLUMNS, effects(found)),
        (INTERACTIONS, INTERACTIONS_COLUMNS, interactions(found)),
        (LEARNING_CURVE, curve_columns(found), curve_rows(found)),
    ):
        if rows:
            files.write_csv(found.folder / name, columns, [list(row.values()) for row in rows])
        else:
            (found.folder / name).unlink(missing_ok=True)


def write_results(folder: Path, runs: Sequence[Run]) -> None:
    """Writes one row for each run: what was typed as `override.*`, the flattened keys of its summary, its folder."""
    files.write_csv(folder / RESULTS, *results(runs))


def results(runs: Sequence[Run]) -> tuple[list[str], list[list[object]]]:
    """The columns and the rows of `results.csv`."""
    typed = sorted({key for run in runs for key in run.overrides})
    flat = [files.flatten(asdict(run.summary)) for run in runs]
    keys = list(dict.fromkeys(key for summary in flat for key in summary))
    rows = [
        [*(run.overrides.get(key) for key in typed), *(_cell(summary.get(key)) for key in keys), run.name]
        for run, summary in zip(runs, flat, strict=True)
    ]
    return [*(f"override.{key}" for key in typed), *keys, "run"], rows


def pairwise(found: Comparison) -> list[list[object]]:
    """The rows of `pairwise.csv`."""
    rows: list[list[object]] = []
    for pair in found.pairs:
        low, high = pair.estimate.interval() if pair.estimate else (None, None)
        holm = pair.holm_interval() or (None, None)
        simultaneous = pair.bonferroni_interval() or (None, None)
        p_values = (pair.verdict.p_value, pair.verdict.p_holm) if pair.verdict else (None, None)
        rows.append(
            [
                *(pair.a, pair.b, found.primary, pair.difference, low, high, *holm, *p_values, pair.p_better),
                *(*pair.num_seeds, pair.is_paired, pair.text, *simultaneous),
            ]
        )
    for one in found.on_validation:
        for metric, estimate in ((f"val_{found.metric}", one.accuracy), ("val_loss_calibrated", one.loss)):
            low, high = estimate.interval()
            by_itself = [one.label, found.baseline, metric, estimate.value, low, high, None, None, estimate.p_value()]
            rows.append([*by_itself, None, None, *estimate.num_seeds, estimate.is_paired, None, None, None])
    return rows


def effects(found: Comparison) -> list[dict[str, Any]]:
    """The rows of `effects.csv`: level differences, primary metric first, main effects before simple ones."""
    return [
        dict(
            zip(
                EFFECTS_COLUMNS,
                (
                    *(one.factor, one.level, one.against, one.within, metric, one.difference, *one.interval()),
                    *(one.p, one.p_holm, one.verdict, one.num_cells, one.num_runs, *one.holm_interval()),
                ),
                strict=True,
            )
        )
        for metric, of_metric in found.effects.items()
        for one in [*of_metric.main, *of_metric.simple]
    ]


def interactions(found: Comparison) -> list[dict[str, Any]]:
    """The rows of `interactions.csv`: `df` holds the degrees of numerator and denominator."""
    return [
        dict(
            zip(
                INTERACTIONS_COLUMNS,
                (
                    " x ".join(one.factors),
                    metric,
                    one.statistic,
                    f"{one.df:.6g}, {one.df_denominator:.6g}",
                    one.p,
                    one.p_holm,
                ),
                strict=True,
            )
        )
        for metric, of_metric in found.effects.items()
        for one in of_metric.interactions
    ]


def _cell(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\n", "\\n")  # of a traceback: a row stays a line
    return json.dumps(value) if isinstance(value, list | tuple) else value
