"""A study folder compared, and what came out written beside its runs."""

from pathlib import Path

from intel_scenes.config import CompareConfig
from intel_scenes.errors import UserError
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.render.csv_files import PAIRWISE, write_all
from intel_scenes.studies.render.page import REPORT, write_page
from intel_scenes.studies.render.text import FORMS

__all__ = ["PAIRWISE", "compare_and_write"]


def compare_and_write(folder: Path, options: CompareConfig, *, images: Path | None = None, form: str = "table") -> str:
    """Compares the runs of a study folder, writes tables and the report page beside them, and tells in a format.

    Args:
        folder: Of the study.
        options: The baseline, and the largest difference without practical meaning.
        images: Folder of the images; None takes what the runs recorded.
        form: `table`, `markdown`, `latex` or `json`.

    Raises:
        UserError: There is nothing to compare, or no such baseline or format.
    """
    if form not in FORMS:
        raise UserError(f"format={form}: there are {', '.join(FORMS)}")
    baseline, rope = options.baseline, options.rope / 100
    found = compare(
        folder,
        baseline=None if baseline is None else str(baseline),
        rope=rope,
        audit=None if options.audit is None else Path(options.audit).expanduser(),
        bounds=options.bounds,
    )
    write_all(found)
    write_page(found, images)
    told = FORMS[form](found)
    return f"{told}\n\nwritten to {folder / REPORT}" if form == "table" else told
