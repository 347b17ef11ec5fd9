"""Progress of the sweep that this process runs, for the line above each of its runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from intel_scenes import files


@dataclass
class Progress:
    """Progress of a sweep.

    Attributes:
        total: Number of runs.
        skipped: Number of runs that were finished before.
        started: Start of the sweep, ISO 8601.
        number: Number of the current run, from 1, counting the skipped ones.
        failed: Number of runs that failed or were refused.
        seconds: Duration of each run so far.
    """

    total: int
    skipped: int
    started: str
    number: int
    failed: int = 0
    seconds: list[float] = field(default_factory=list)

    def line(self) -> str:
        """Return a line such as `run 7 of 36, 2 skipped, 1 failed, about 12 minutes left`."""
        text = f"run {self.number} of {self.total}, {self.skipped} skipped, {self.failed} failed"
        if not self.seconds:
            return text
        left = sum(self.seconds) / len(self.seconds) * (self.total - self.number + 1) / 60
        return f"{text}, about {left:.0f} minutes left" if left >= 1.5 else text  # less is not worth a line


# Hydra passes a job only its configuration, so a sweep leaves its progress here for the jobs of its own process.
_current: Progress | None = None


def current() -> Progress | None:
    """Return the progress of the sweep that this process runs; None in the worker of a launcher."""
    return _current


@contextmanager
def begun(total: int, skipped: int) -> Iterator[Progress]:
    """Make the progress of a sweep available to its jobs while it runs."""
    global _current
    _current = Progress(total, skipped, files.now(), number=skipped)
    try:
        yield _current
    finally:
        _current = None
