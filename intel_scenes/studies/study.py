"""The public class `Study`: a compared study as an object, read from its folder without writing anything."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from intel_scenes import pages
from intel_scenes.studies.comparison import Comparison, compare
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.csv_files import (
    EFFECTS_COLUMNS,
    PAIRWISE_COLUMNS,
    effects,
    pairwise,
    results,
)
from intel_scenes.studies.render.tables import leaderboard
from intel_scenes.table import Table

TEMPLATE = Path(__file__).parents[1] / "templates" / "notebook_study.html"


@dataclass(frozen=True)
class Study:
    """The runs of a sweep, compared.

    Attributes:
        comparison: All results that the report shows.
    """

    comparison: Comparison

    @property
    def folder(self) -> Path:
        """Study folder."""
        return self.comparison.folder

    @property
    def answer(self) -> str:
        """The findings in a few sentences, with confidence intervals."""
        return "\n".join(answer(self.comparison))

    @cached_property
    def results(self) -> Table:
        """One row for each run, with the columns of `results.csv`: overrides, then the keys of `summary.json`."""
        return Table.of_rows(*results(self.comparison.study.all_runs))

    @cached_property
    def pairs(self) -> Table:
        """One row for each pair of arms, with the columns of `pairwise.csv`: difference, intervals, verdict."""
        return Table.of_rows(PAIRWISE_COLUMNS, (list(row.values()) for row in pairwise(self.comparison)))

    @cached_property
    def effects(self) -> Table:
        """One row for each difference of two levels of a factor, with the columns of `effects.csv`.

        Empty where the study is not factorial.
        """
        return Table.of_rows(EFFECTS_COLUMNS, (list(row.values()) for row in effects(self.comparison)))

    def __repr__(self) -> str:
        """Return the folder and the numbers of runs and arms."""
        return f"Study({str(self.folder)!r}: {len(self.comparison.runs)} runs, {len(self.comparison.arms)} arms)"

    def _repr_html_(self) -> str:
        """Return the findings, the arms and the pairs as HTML for a notebook."""
        reference = self.comparison.reference
        turned = [pair.turned() if pair.a == reference else pair for pair in self.comparison.pairs]
        pairs = [[pair.a, pair.b, f"{100 * pair.difference:+.2f}", pair.text] for pair in turned]
        return pages.render(
            TEMPLATE,
            answer=answer(self.comparison),
            arms=leaderboard(self.comparison),
            pairs=[["arm", "against", "difference (points)", "verdict"], *pairs] if pairs else [],
        )


def load_study(folder: str | Path, *, baseline: str | None = None, rope: float = 0.5) -> Study:
    """Read the records of a study and compare its runs; no file is written, and torch is not imported.

    Args:
        folder: Study folder, such as `multirun/optimizers`.
        baseline: Label of the arm that all others are compared with; None compares all pairs.
        rope: Region of practical equivalence: the largest difference without practical meaning, in points of accuracy.

    Raises:
        UserError: There are no runs to compare, or no such arm.
    """
    return Study(compare(Path(folder).expanduser(), baseline=baseline, rope=rope / 100))
