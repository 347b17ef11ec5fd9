"""What was typed: names of runs and sweeps, and a digest of all that it composes to."""

import hashlib
import os
import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from intel_scenes import files, record, usage
from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder

LABEL_LENGTH = 80
FIRST = ("model", "model.name", "optim", "optim.lr", "lr_scale", "scheduler", "recipe", "data.batch_size", "seed")
SEARCH_SEED = 1  # fixed, so that a search goes on where it ended
DATA_VARIABLE = "INTEL_SCENES_DATA"
UNNAMED = "+hydra.sweeper.is_named=false"  # stands before a sweep.name that nobody typed
ARGUMENT = r"[~+]*[\w./@]+=|~"  # how an override begins


class CannotCompose(HydraException):
    """Hydra cannot compose a job of a sweep; its cause says why.

    Attributes:
        job: The overrides.
    """

    def __init__(self, job: Sequence[str]) -> None:
        """Of a job's overrides."""
        super().__init__()
        self.job = list(job)


def run_name(overrides: Sequence[str], parent: str | Path | None = None) -> str:
    """One path component for a run: a readable label and a short hash, from its sorted, parsed overrides.

    The same for any order, for values that parse to the same (`0.1`, `1e-1`), and whatever keys that do not change the
    result are set to. What studies compare stands first in the label; where it is cut, the seed is kept.

    Args:
        overrides: What was typed.
        parent: Of the run's folder. Earlier versions cut the seed off; a run that is there under such a name keeps it.
    """
    texts = {key: text for key, text in _texts(overrides).items() if not record.is_neutral(key)}
    digest = hashlib.sha256(repr(sorted(texts.values())).encode()).hexdigest()[:8]
    readable = sorted(sorted(texts.values()), key=lambda text: _rank(text.lstrip("~").partition("=")[0]))
    cut = f"{_label(readable)[:LABEL_LENGTH] or 'defaults'}-{digest}"
    seed = texts.get("seed", "")
    up_to_seed = readable[: readable.index(seed) + 1] if seed else []
    of_seed, others = _label([seed]), _label([text for text in readable if text != seed])
    if len(_label(up_to_seed)) <= LABEL_LENGTH or len(of_seed) >= LABEL_LENGTH:
        return cut
    if parent is not None and _is_there(Path(parent), cut):
        return cut
    return f"{others[: LABEL_LENGTH - len(of_seed) - 1].rstrip(',')},{of_seed}-{digest}"


def _label(texts: Sequence[str]) -> str:
    return re.sub(r"[^\w.=,+-]+", "_", ",".join(texts)).strip("._")


def _is_there(parent: Path, name: str) -> bool:
    """Whether a folder holds the run of a name, or a study that plans it."""
    study = parent / record.STUDY
    return (parent / name).is_dir() or (study.is_file() and name in study.read_text())


def composition_digest(overrides: Sequence[str]) -> str:
    """Digest of the tree of configuration files, the overrides and the environment: jobs that share it compose alike.

    A file that an override names counts by its content. What only moves or shows a sweep (`sweep.*`, `hydra.*`) is left
    out; where the data lies is not.
    """
    kept = sorted(text for key, text in _texts(overrides).items() if not re.match(r"(sweep|hydra)\b", key))
    contents = [_file_digest(text.partition("=")[2]) for text in kept]
    return files.digest([_tree_digest(), kept, contents, os.environ.get(DATA_VARIABLE)])


def typed(overrides: Sequence[str]) -> dict[str, str]:
    """What each key was set to last, as texts that are the same for values that parse to the same."""
    return {key: text.partition("=")[2] for key, text in _texts(overrides).items()}


def sweep_name(overrides: Sequence[str]) -> str:
    """The chosen study, else `by-` and the swept keys, such as `by-model-seed`, in the order of their names.

    Raises:
        UserError: Several studies are chosen.
    """
    parsed = [_parsed(text) for text in overrides]
    for override in parsed:
        if override.key_or_group == "study" and override.is_sweep_override():
            raise UserError(f"{override.input_line} chooses several studies: start a sweep for each")
        if override.key_or_group == "study":
            if override.value() is None:
                raise UserError(f"{override.input_line}: leave it out, no study is the default")
            return str(override.value())
    swept = sorted(override.key_or_group for override in parsed if override.is_sweep_override())
    return "by-" + re.sub(r"[^\w.-]+", "_", "-".join(swept))[:LABEL_LENGTH] if swept else "single"


def named(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, flags first, with a name for its sweep where it is a multirun and has none.

    `UNNAMED` before the name tells the sweeper that nobody typed it.

    The name is an override because Hydra composes each job anew, and there knows no longer what was swept.
    """
    overrides = [text for text in arguments if re.match(ARGUMENT, text)]
    arguments = [*(text for text in arguments if text not in overrides), *overrides]
    keys = record.keys_of(overrides)
    is_multirun = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments)) or "study" in keys
    if not is_multirun:
        return list(arguments)
    name = sweep_name(overrides)
    if "sweep.name" in keys:
        return list(arguments)
    mark = [] if "hydra/sweeper" in keys else [UNNAMED]  # which another sweeper does not take
    return [*arguments, *mark, f"sweep.name={name}"]


def as_typed(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command without what `named` has added."""
    return list(arguments[: arguments.index(UNNAMED)]) if UNNAMED in arguments else list(arguments)


def shared_and_swept(jobs: Sequence[Sequence[str]]) -> tuple[dict[str, str], set[str]]:
    """The overrides that all jobs have, by key, and the keys in which jobs differ.

    Without the seed and what changes no result. The overrides of a whole command, which give a key several values, may
    stand for its jobs.
    """
    shared: dict[str, str] = {}
    swept: set[str] = set()
    for place, job in enumerate(jobs):
        parsed = {override.key_or_group: override for override in map(_parsed, job)}
        counted = {key: found for key, found in parsed.items() if key != "seed" and not record.is_neutral(key)}
        swept |= {key for key, found in counted.items() if found.is_sweep_override()}
        texts = {key: str(found.input_line) for key, found in counted.items()}
        shared = shared if place else texts
        swept |= {key for key in shared.keys() | texts.keys() if shared.get(key) != texts.get(key)}
    return {key: text for key, text in shared.items() if key not in swept}, swept


def of_command(command: object) -> list[str] | None:
    """The overrides of a command as `study.yaml` holds it; None where it is none, or cannot be read."""
    if not isinstance(command, str):
        return None
    try:
        return [str(_parsed(text).input_line) for text in shlex.split(command) if re.match(ARGUMENT, text)]
    except (ValueError, HydraException):
        return None


def sampled(intervals: Sequence[Override], trials: int) -> list[list[str]]:
    """Points of a search, each as its overrides; one without any where nothing is searched.

    They are those of a Halton sequence with a fixed scramble, spread more evenly than random ones (Bousquet et al.,
    "Critical hyper-parameters", 2017). None depends on a result: so every configuration tries the same ones, in any
    order and side by side, and the first n of them are what a shorter search would have tried.

    Args:
        intervals: Keys with `interval(low,high)`, `tag(log,interval(low,high))` for a logarithmic scale, or
            `int(interval(low,high))`, both ends included.
        trials: How many points.

    Raises:
        UserError: The interval or the number is of no use.
    """
    if not intervals:
        return [[]]
    if groups := [override.input_line for override in intervals if (conf_folder() / override.key_or_group).is_dir()]:
        raise UserError(f"{groups[0]}: an interval is for a number, and this chooses a file")
    if type(trials) is not int or trials < 1:
        raise UserError(f"sweep.trials={trials} must be a whole number of at least 1")
    intervals = sorted(intervals, key=Override.get_key_element)  # the points depend on no order of typing
    from scipy.stats import qmc

    points = qmc.Halton(len(intervals), rng=SEARCH_SEED).random(trials)
    axes = [_axis(override, column) for override, column in zip(intervals, points.T.tolist(), strict=True)]
    keys = [override.get_key_element() for override in intervals]
    return [[f"{key}={value}" for key, value in zip(keys, point, strict=True)] for point in zip(*axes, strict=True)]


def bounds(override: Override) -> tuple[float, float, int]:
    """Low and high of an interval, and 1 where its scale is logarithmic.

    Raises:
        UserError: The interval is of no use.
    """
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    assert interval.start is not None
    assert interval.end is not None
    low, high, is_log = interval.start, interval.end, "log" in interval.tags
    if low >= high or (is_log and low <= 0):
        raise UserError(f"{override.input_line}: the interval has to go from low to high{', above 0' * is_log}")
    return low, high, int(is_log)


def _axis(override: Override, shares: Sequence[float]) -> list[str]:
    """The values at shares of an interval, as texts of four digits."""
    low, high, is_log = bounds(override)
    is_whole = isinstance(low, int) and isinstance(high, int)
    if is_whole:
        low, high = low - 0.5 + 1e-9, high + 0.5 - 1e-9  # as large a share for the ends as for the others
    values = [low * (high / low) ** share if is_log else low + (high - low) * share for share in shares]
    return [str(round(value)) if is_whole else f"{value:.4g}" for value in values]


def _rank(key: str) -> int:
    """What studies compare comes first, what only says which images and machine last."""
    if key in FIRST:
        return FIRST.index(key)
    return len(FIRST) + (not key.startswith(("recipe", "optim", "scheduler", "augment")))


def _texts(overrides: Sequence[str]) -> dict[str, str]:
    """Each key as it was set last, as a text that is the same for values that parse to the same."""
    texts = {}
    for override in map(_parsed, overrides):
        key = override.get_key_element().lstrip("~+")
        texts[override.key_or_group] = f"{'~' if override.is_delete() else ''}{key}={override.value()}"
    return texts


@cache
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]  # whose errors name the override


@cache
def _tree_digest() -> str:
    folder = conf_folder()
    return files.digest({str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.yaml"))})


def _file_digest(value: str) -> str | None:
    if "/" not in value and "." not in value:
        return None
    path = Path(value).expanduser()
    return _content_digest(path, path.stat().st_mtime_ns) if path.is_file() else None


@cache
def _content_digest(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Here rather than in a function, so that a worker process of any launcher has it.
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("usage", usage.of_terminal, replace=True)
