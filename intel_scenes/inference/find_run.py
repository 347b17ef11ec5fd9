"""A run by what one types for it: its folder, the beginning of its name, or `latest`."""

from collections.abc import Sequence
from pathlib import Path

from intel_scenes import record
from intel_scenes.errors import UserError, counted, did_you_mean
from intel_scenes.record import Status, Summary

LATEST = "latest"
PLACES = ("outputs/*", "multirun/*/*")  # of runs, below the current folder
SEARCHED = "outputs/ or multirun/ of the current folder"
FEWEST_DIGITS = 4  # of the hash at the end of a name: a shorter beginning of it may be meant as that of a name
NUM_NAMED = 3  # of the runs that an ambiguous name could be


def find_run(name: str) -> Path:
    """Finds the folder of a run.

    Args:
        name: An existing folder; `latest`, the completed run below outputs/ and multirun/ that ended last; or the
            beginning of a run's name there, of STUDY/RUN or of the hash that a name ends in, four digits of it or
            more, which no other run shares. A whole name is found even where a longer one begins with it.

    Raises:
        UserError: No run is meant, or several are.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name == LATEST:
        return _latest()
    runs = _runs()
    meant = [run for run in runs if name in _names(run)] or [run for run in runs if _begins(run, name)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UserError(
            f"run={name} could be any of {counted(len(meant), 'run')}: {_listed(meant)}; type more of one, or the hash "
            "that it ends in"
        )
    # Cut to the same length: what is misspelt may be the beginning of a long name.
    near = did_you_mean(name, {one[: len(name)] for run in runs for one in _names(run)})
    raise UserError(
        f"there is no folder {name}, and no run below {SEARCHED} has a name that begins so{near}: "
        f"give the folder of a finished run{', or several as [RUN,RUN]' if ',' in name else ''}"
    )


def find_runs(names: Sequence[str]) -> list[Path]:
    """Finds the folders of runs, each of which counts once.

    Raises:
        UserError: One is not meant by its name, or named twice.
    """
    folders = [find_run(name) for name in names]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("run names a run twice: leave it out, each run counts once")
    return folders


def _runs() -> list[Path]:
    """The folders with a record below the current folder, unfinished runs included, sorted."""
    folders = (path.parent for place in PLACES for path in Path().glob(f"{place}/{record.SUMMARY}"))
    return sorted(folder for folder in folders if not any(part.startswith(".") for part in folder.parts))


def _names(run: Path) -> tuple[str, ...]:
    """What a run may be called: RUN, and STUDY/RUN where it is part of a study."""
    _, *study, name = run.parts
    return (name, f"{study[0]}/{name}") if study else (name,)


def _begins(run: Path, name: str) -> bool:
    """Whether a name of a run begins so, or the hash in which it ends."""
    has_hash = len(name) >= FEWEST_DIGITS and run.name.rpartition("-")[2].startswith(name)
    return has_hash or any(one.startswith(name) for one in _names(run))


def _latest() -> Path:
    ended = [
        (summary.ended or "", run)
        for run in _runs()
        if (summary := Summary.peek(run)) is not None and summary.status is Status.COMPLETED
    ]
    if not ended:
        raise UserError(f"run={LATEST}: there is no finished run below {SEARCHED}; give the folder of one")
    return max(ended)[1]


def _listed(runs: Sequence[Path]) -> str:
    more = ", ..." if len(runs) > NUM_NAMED else ""
    return ", ".join(str(run) for run in runs[:NUM_NAMED]) + more
