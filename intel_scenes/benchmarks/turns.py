"""Figures beside a rival that is measured in turns with it, in the same run, and the machine that they are of."""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from intel_scenes.runtime import Runtime
from intel_scenes.training.identity import circumstances


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: The part that was measured.
        case: Which case of it.
        unit: Of `ours` and `rival`.
        ours: Median.
        rival: Median.
        ratio: Median of ours / rival of one turn.
        ratio_low: The least of them.
        ratio_high: The greatest.
        note: What else was measured.
    """

    what: str
    case: str
    unit: str
    ours: float
    rival: float
    ratio: float
    ratio_low: float
    ratio_high: float
    note: str = ""


def in_turns(
    what: str, case: str, unit: str, ours: Callable[[], float], rival: Callable[[], float], repeats: int
) -> Row:
    """Measures both again and again, one after the other, so that a busy machine slows both alike."""
    return row_of(what, case, unit, [(ours(), rival()) for _ in range(repeats)])


def row_of(what: str, case: str, unit: str, pairs: Sequence[tuple[float, float]]) -> Row:
    """The figure of several turns, each of which measured (ours, the rival)."""
    ratios = [mine / theirs for mine, theirs in pairs]
    mine, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Row(what, case, unit, mine, theirs, statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Machine:
    """What it was measured on.

    Attributes:
        processor: Name of the CPU.
        cores: Of the whole machine; None where the system does not tell.
        threads: Of torch, on the CPU.
        torch: Its version, with what it was built for.
        device: Of the networks.
        versions: Of Python and the libraries, by name.
        package_version: Of this package.
        git_commit: Of this package; None where it is no checkout.
        git_dirty: Whether that was changed.
    """

    processor: str
    cores: int | None
    threads: int
    torch: str
    device: str
    versions: dict[str, str]
    package_version: str
    git_commit: str | None
    git_dirty: bool | None


def this_machine(runtime: Runtime) -> Machine:
    """The one that this runs on."""
    where = asdict(circumstances(runtime.device))
    return Machine(_processor(), os.cpu_count(), runtime.threads, torch.__version__, **where)


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # of Linux
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def as_json(rows: Sequence[Row], machine: Machine) -> dict[str, object]:
    """What `bench.json` holds."""
    return {"machine": asdict(machine), "rows": [asdict(row) for row in rows]}
