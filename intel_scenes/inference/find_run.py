"""Find a run by its folder, by the beginning of its name or hash, or by `latest`."""

from collections.abc import Sequence
from pathlib import Path

from intel_scenes import record
from intel_scenes.errors import UserError, counted, did_you_mean, few
from intel_scenes.record import Status, Summary

LATEST = "latest"
PATTERNS = ("outputs/*", "multirun/*/*")  # folders of runs below the current folder
SEARCHED = "outputs/ or multirun/ of the current folder"
FEWEST_DIGITS = 4  # of a hash: fewer are taken for the beginning of a name only


def find_run(name: str) -> Path:
    """Return the folder of a run.

    Args:
        name: An existing folder; `latest`, the completed run below outputs/ and multirun/ that ended last; or a unique
            beginning of a run's name there, of STUDY/RUN, or of the hash that ends a name (at least four digits). A
            full name is unique even if a longer name begins with it.

    Raises:
        UserError: No run matches, or several do.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name == LATEST:
        return _latest()
    runs = _runs()
    matches = [run for run in runs if name in _names(run)] or [run for run in runs if _begins(run, name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UserError(
            f"run={name} matches {counted(len(matches), 'run')} ({few(list(map(str, matches)), 3)}): type more of the "
            "name, or the hash at its end"
        )
    # Compare beginnings of equal length, because the misspelt text may be the beginning of a long name.
    near = did_you_mean(name, {run_name[: len(name)] for run in runs for run_name in _names(run)})
    raise UserError(
        f"there is no folder {name}, and no run below {SEARCHED} has a name that begins like this{near}: "
        f"give the folder of a finished run{', or several as [RUN,RUN]' if ',' in name else ''}"
    )


def finished_summary(folder: Path) -> Summary:
    """Return the summary of a finished run.

    Raises:
        UserError: The folder holds no run, several runs, or one that is not finished.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give the folder of a finished run")
    summary = Summary.peek(folder)
    if summary is None and any(folder.glob(f"*/{record.SUMMARY}")):
        raise UserError(f"{folder} holds several runs: name them as run=[{folder}/RUN1,{folder}/RUN2,...]")
    if summary is None:
        reason = f"its {record.SUMMARY} is corrupt" if (folder / record.SUMMARY).exists() else f"no {record.SUMMARY}"
        raise UserError(f"{folder} holds no run ({reason}): give the folder of a finished run")
    if summary.status is not Status.COMPLETED:
        raise UserError(
            f"{folder} holds a run that is not finished ({summary.status}): repeat its command to resume it, or give "
            "another run"
        )
    return summary


def find_finished_runs(names: Sequence[str]) -> list[Path]:
    """Return the folders of several finished runs.

    Raises:
        UserError: A name matches no run or several, a run is named twice, or one is not finished.
    """
    folders = [find_run(name) for name in names]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("run names the same run twice: remove one of the two")
    for folder in folders:
        finished_summary(folder)
    return folders


def _runs() -> list[Path]:
    """Return the sorted folders with a record below the current folder, unfinished runs included."""
    folders = (path.parent for pattern in PATTERNS for path in Path().glob(f"{pattern}/{record.SUMMARY}"))
    return sorted(folder for folder in folders if not any(part.startswith(".") for part in folder.parts))


def _names(run: Path) -> tuple[str, ...]:
    """Return the names of a run: RUN, and STUDY/RUN for a run of a study."""
    _, *study, name = run.parts
    return (name, f"{study[0]}/{name}") if study else (name,)


def _begins(run: Path, name: str) -> bool:
    """Return whether a name of the run, or the hash at its end, begins with `name`."""
    has_hash = len(name) >= FEWEST_DIGITS and run.name.rpartition("-")[2].startswith(name)
    return has_hash or any(run_name.startswith(name) for run_name in _names(run))


def _latest() -> Path:
    ended = [
        (summary.ended or "", run)
        for run in _runs()
        if (summary := Summary.peek(run)) is not None and summary.status is Status.COMPLETED
    ]
    if not ended:
        raise UserError(f"run={LATEST}: there is no finished run below {SEARCHED}; give the folder of one")
    return max(ended)[1]
