"""The public class Table: columns of numpy arrays by name."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from intel_scenes import pages
from intel_scenes.errors import UserError, counted

Column = npt.NDArray[Any]

MAX_ROWS = 20  # in a notebook


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length by name: `table["path"]`, `table.to_pandas()`.

    Attributes:
        columns: (N,) read-only arrays: int64, bool, float64 with NaN for a missing value, or objects (str or None).
    """

    columns: Mapping[str, Column]

    def __post_init__(self) -> None:
        """Make the arrays read-only.

        Raises:
            ValueError: The columns have different lengths.
        """
        if len({len(column) for column in self.columns.values()}) > 1:
            raise ValueError("columns must have equal lengths")
        for column in self.columns.values():
            column.flags.writeable = False

    @classmethod
    def of_rows(cls, names: Sequence[str], rows: Iterable[Sequence[object]]) -> Self:
        """Build a table from rows of plain values; the type of a column is that of its values."""
        all_rows = list(rows)
        return cls({name: column_of([row[number] for row in all_rows]) for number, name in enumerate(names)})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.columns)

    def __getitem__(self, name: str) -> Column:
        """Return a column (N,) by its name."""
        return self.columns[name]

    def __len__(self) -> int:
        """Return the number of rows."""
        return next((len(column) for column in self.columns.values()), 0)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each row as plain values by name, with None for a missing value, ready for JSON."""
        lists = [column.tolist() for column in self.columns.values()]
        for values in zip(*lists, strict=True):
            plain = (None if isinstance(value, float) and math.isnan(value) else value for value in values)
            yield dict(zip(self.names, plain, strict=True))

    def to_pandas(self) -> Any:  # noqa: ANN401  # pandas is an extra
        """Return a copy of the table as a `pandas.DataFrame`.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise UserError("to_pandas() needs pandas: pip install 'intel-scenes[pandas]'") from error
        return pandas.DataFrame({name: column.copy() for name, column in self.columns.items()})

    def __repr__(self) -> str:
        """Return the number of rows and the names of the columns."""
        return f"Table({counted(len(self), 'row')}: {', '.join(self.names)})"

    def _repr_html_(self) -> str:
        """Return the first rows as HTML, for a notebook."""
        head = Table({name: column[:MAX_ROWS] for name, column in self.columns.items()})
        rows = [[_shown(value) for value in row.values()] for row in head.rows()]
        left = len(self) - len(head)
        template = Path(__file__).parent / "templates" / "notebook_table.html"
        return pages.render(template, rows=[list(self.names), *rows], left=left)


def column_of(values: Sequence[object]) -> Column:
    """Return a column of plain values, None for a missing one; values that are no numbers stay objects."""
    present = [value for value in values if value is not None]
    if present and len(present) == len(values) and {type(value) for value in present} in ({int}, {bool}):
        return np.array(values)
    if present and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        return np.array([math.nan if value is None else value for value in values], np.float64)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
