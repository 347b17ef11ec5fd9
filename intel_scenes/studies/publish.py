"""Compare the runs of a study folder and write the results beside them."""

from pathlib import Path

from intel_scenes.config import CompareConfig
from intel_scenes.errors import UserError
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.render.csv_files import PAIRWISE, write_all
from intel_scenes.studies.render.page import REPORT, write_page
from intel_scenes.studies.render.text import FORMS

__all__ = ["PAIRWISE", "compare_and_write"]


def compare_and_write(folder: Path, options: CompareConfig, *, images: Path | None = None, form: str = "table") -> str:
    """Compare the runs of a study folder, write tables and report page beside them, and return the result as text.

    Args:
        folder: Study folder.
        options: Options of the comparison: baseline, rope, audit and bounds.
        images: Folder of the images; None uses the one that the runs recorded.
        form: `table`, `markdown`, `latex` or `json`.

    Raises:
        UserError: There are no runs to compare, or no such baseline or format.
    """
    if form not in FORMS:
        raise UserError(f"unknown format={form}: choose one of {', '.join(FORMS)}")
    baseline, rope = options.baseline, options.rope / 100
    comparison = compare(
        folder,
        baseline=None if baseline is None else str(baseline),
        rope=rope,
        audit=None if options.audit is None else Path(options.audit).expanduser(),
        bounds=options.bounds,
    )
    write_all(comparison)
    write_page(comparison, images)
    text = FORMS[form](comparison)
    return f"{text}\n\nwritten to {folder / REPORT}" if form == "table" else text
