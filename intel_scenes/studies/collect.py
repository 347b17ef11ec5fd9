"""The runs of a study folder, from their records alone."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from intel_scenes import record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        name: Of its folder.
        overrides: What was typed, by key.
        summary: What `summary.json` holds.
    """

    name: str
    overrides: dict[str, str]
    summary: dict[str, Any]

    @property
    def is_completed(self) -> bool:
        """Whether it has results."""
        return bool(self.summary["status"] == "completed")


def collect(folder: Path) -> list[Run]:
    """The runs of a study folder that have a record, by name; of two that are the same run, the completed one."""
    runs: dict[str, Run] = {}
    for path in sorted(folder.glob(f"*/{record.SUMMARY}")):
        summary = record.peek(path.parent)
        if summary is None:
            log.warning("%s is no record and left out", path)
            continue
        run = Run(path.parent.name, _overrides(path.parent / record.OVERRIDES), summary)
        key = summary["config_digest"] or run.name
        if key not in runs or (run.is_completed and not runs[key].is_completed):
            runs[key] = run
    return list(runs.values())


def varying(runs: Sequence[Run]) -> list[str]:
    """The keys of overrides whose values differ between runs, sorted, without those that have no effect."""
    keys = sorted({key for run in runs for key in run.overrides if not record.is_neutral(key)})
    return [key for key in keys if len({run.overrides.get(key) for run in runs}) > 1]


def _overrides(path: Path) -> dict[str, str]:
    typed = yaml.safe_load(path.read_text()) if path.exists() else []
    pairs = (text.lstrip("+").partition("=") for text in typed)
    return {key: value for key, _, value in pairs}
