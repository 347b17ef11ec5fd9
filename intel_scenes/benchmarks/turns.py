"""Benchmark figures of ours and a rival, measured alternately, and the machine that they belong to."""

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
        what: Name of the benchmark.
        case: Case of the benchmark.
        unit: Unit of `ours` and `rival`.
        ours: Our median.
        rival: Median of the rival.
        ratio: Median over turns of ours / rival.
        ratio_low: Smallest ratio of a turn.
        ratio_high: Largest ratio of a turn.
        note: Further figures.
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
    """Measure both alternately, so that a busy machine slows both alike."""
    return row_of(what, case, unit, [(ours(), rival()) for _ in range(repeats)])


def row_of(what: str, case: str, unit: str, pairs: Sequence[tuple[float, float]]) -> Row:
    """Return the figure of several turns, each measured as (ours, rival)."""
    ratios = [ours / rival for ours, rival in pairs]
    ours, rival = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Row(what, case, unit, ours, rival, statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Machine:
    """The machine of the measurements.

    Attributes:
        processor: Name of the CPU.
        cores: Cores of the whole machine; None if the system does not report them.
        threads: Torch's threads on the CPU.
        torch: Version of torch with its build suffix.
        device: Device of the networks.
        versions: Versions of Python and the libraries, by name.
        package_version: Version of this package.
        git_commit: Commit of this package; None if it is no source checkout.
        git_dirty: Whether the checkout had changes.
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
    """Return the machine of this process."""
    where = asdict(circumstances(runtime.device))
    return Machine(_processor(), os.cpu_count(), runtime.threads, torch.__version__, **where)


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # on Linux
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def as_json(rows: Sequence[Row], machine: Machine) -> dict[str, object]:
    """Return the content of `bench.json`."""
    return {"machine": asdict(machine), "rows": [asdict(row) for row in rows]}
