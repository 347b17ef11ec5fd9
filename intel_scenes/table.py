"""A table by columns, for those who go on working with what a run or a study holds."""

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

MOST_SHOWN = 20  # rows in a notebook


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length by name: `table["path"]`, `table.to_pandas()`.

    Attributes:
        columns: (N,) arrays that cannot be written to: int64, bool, float64 with NaN where a value is not known, or
            objects, which are str or None.
    """

    columns: Mapping[str, Column]

    def __post_init__(self) -> None:
        """Protects the arrays.

        Raises:
            ValueError: They are not of one length.
        """
        if len({len(column) for column in self.columns.values()}) > 1:
            raise ValueError("columns of different lengths")
        for column in self.columns.values():
            column.flags.writeable = False

    @classmethod
    def of_rows(cls, names: Sequence[str], rows: Iterable[Sequence[object]]) -> Self:
        """A table from rows of plain values; the type of each column is that of its values."""
        kept = list(rows)
        return cls({name: column_of([row[place] for row in kept]) for place, name in enumerate(names)})

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(self.columns)

    def __getitem__(self, name: str) -> Column:
        """A column (N,) by its name."""
        return self.columns[name]

    def __len__(self) -> int:
        """Number of rows."""
        return next((len(column) for column in self.columns.values()), 0)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as plain values by name, None where a value is not known: what JSON holds."""
        lists = [column.tolist() for column in self.columns.values()]
        for values in zip(*lists, strict=True):
            known = (None if isinstance(value, float) and math.isnan(value) else value for value in values)
            yield dict(zip(self.names, known, strict=True))

    def to_pandas(self) -> Any:  # noqa: ANN401  # pandas is an extra
        """The same as a `pandas.DataFrame`, in memory of its own.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise UserError("to_pandas() needs pandas: pip install 'intel-scenes[pandas]'") from error
        return pandas.DataFrame({name: column.copy() for name, column in self.columns.items()})

    def __repr__(self) -> str:
        """Number of rows, and the columns."""
        return f"Table({counted(len(self), 'row')}: {', '.join(self.names)})"

    def _repr_html_(self) -> str:
        """The first rows, for a notebook."""
        head = Table({name: column[:MOST_SHOWN] for name, column in self.columns.items()})
        rows = [[_shown(value) for value in row.values()] for row in head.rows()]
        left = len(self) - len(head)
        template = Path(__file__).parent / "templates" / "notebook_table.html"
        return pages.render(template, rows=[list(self.names), *rows], left=left)


def column_of(values: Sequence[object]) -> Column:
    """A column of plain values, None where one is not known; what is no number stays an object."""
    known = [value for value in values if value is not None]
    if known and len(known) == len(values) and {type(value) for value in known} in ({int}, {bool}):
        return np.array(values)
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return np.array([math.nan if value is None else value for value in values], np.float64)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
