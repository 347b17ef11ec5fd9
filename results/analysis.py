"""What the analyses share: rows with adjusted intervals, tables that were written, and how a command ends."""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from intel_scenes.errors import UserError


class Difference(Protocol):
    """A difference with its uncertainty."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return its confidence interval."""

    def p_value(self) -> float:
        """Return the two-sided p-value of no difference."""


def adjusted(difference: Difference, p_holm: float, level_holm: float) -> dict[str, Any]:
    """Return intervals and p-values of a row, unadjusted and by Holm's procedure within its family.

    Args:
        difference: The difference.
        p_holm: Adjusted p-value.
        level_holm: Error rate at which the difference was tested.
    """
    (low, high), (low_holm, high_holm) = difference.interval(), difference.interval(1 - level_holm)
    of_p = {"p_value": difference.p_value(), "p_holm": p_holm}
    return {"low": low, "high": high, "low_holm": low_holm, "high_holm": high_holm, **of_p}


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column.

    Raises:
        UserError: There is no such file.
    """
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"there is no table {path}: name one that an analysis or a study wrote") from None


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Run a command with the arguments that were typed; an error that the user can fix is one sentence."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
