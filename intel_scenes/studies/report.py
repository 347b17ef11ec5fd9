"""What the runs of a study show: `results.csv`, and a table for the terminal."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from intel_scenes import record
from intel_scenes.studies.collect import Run, varying

RESULTS = "results.csv"
Summary = dict[str, Any]

COLUMNS: tuple[tuple[str, Callable[[Summary], float], float, str], ...] = (
    ("valid %", lambda summary: summary["val_accuracy"], 100, ".1f"),
    ("test %", lambda summary: summary["test_accuracy"], 100, ".1f"),
    ("gap", lambda summary: summary["train_accuracy"] - summary["val_accuracy"], 100, "+.1f"),
    ("minutes", lambda summary: summary["fit_seconds"], 1 / 60, ".1f"),
)


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


def table(runs: Sequence[Run]) -> str:
    """Completed runs by configuration, best validation accuracy first: mean and, over seeds, standard deviation."""
    completed = [run for run in runs if run.is_completed]
    factors = [key for key in varying(completed) if key != "seed"]
    groups: dict[str, list[Run]] = {}
    for run in completed:
        groups.setdefault(run.summary["configuration_digest"], []).append(run)
    ordered = sorted(groups.values(), key=lambda group: -statistics.fmean(run.summary["val_accuracy"] for run in group))
    lines = [[*factors, "seeds", *(name for name, *_ in COLUMNS)]]
    for group in ordered:
        values = [group[0].overrides.get(key, "") for key in factors]
        cells = [_over_seeds(group, value, factor, form) for _, value, factor, form in COLUMNS]
        lines.append([*values, str(len(group)), *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _over_seeds(group: Sequence[Run], value: Callable[[Summary], float], factor: float, form: str) -> str:
    values = [value(run.summary) * factor for run in group]
    mean = format(statistics.fmean(values), form)
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, list) else value
