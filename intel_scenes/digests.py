"""Which run a configuration is: digests of its values and of what they came to, without what changes no result."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from intel_scenes.config import RunConfig
from intel_scenes.files import digest, flatten

# Keys, with all that lies below them, that do not change the result of a run.
NEUTRAL_KEYS = (
    *("data.root", "data.cache_dir", "data.device_resident"),
    *("compare", "dry_run", "folder", "hydra", "keep_last", "logger", "study", "sweep"),
    *("trainer.accelerator", "trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.profiler"),
)
# Left out of the digest; their resolved values are hashed instead: see `Facts`.
RESOLVED_KEYS = (
    *("model.weights", "data.exclude", "threads", "trainer.precision"),
    *("data.labels", "data.test_fraction"),  # the fingerprint holds the split of each image
)
# Of a digest of what an epoch costs: rates, schedules and the number of epochs change nothing in that.
FREE_KEYS = (
    *("epochs", "num_steps", "scheduler", "lr_scale", "lr_scaling"),
    *("recipe.label_smoothing", "recipe.head_lr_scale", "recipe.first_lr_scale", "recipe.views"),
)
COSTLY_OPTIM_KEYS = ("optim._target_", "optim.fused")


@dataclass(frozen=True)
class Facts:
    """What a configuration names or leaves open, as it came out; digests hold it in place of the keys.

    Attributes:
        weights: Digest of the initial weights; None where they are random.
        data: Fingerprint of the images.
        precision: As Lightning names it.
        threads: Of torch on the CPU.
        stored: Shorter side and interpolation of images that are stored whole; None for squares.
    """

    weights: str | None
    data: str
    precision: str
    threads: int
    stored: tuple[int, str] | None = None


@dataclass(frozen=True)
class Digests:
    """SHA-256 (hex) of a configuration: of the run, without its seed, and of what an epoch's cost depends on."""

    config: str
    configuration: str
    budget: str


def digests(config: RunConfig, facts: Facts) -> Digests:
    """The digests of a resolved configuration."""
    circumstances = dict(hashed(facts))
    kept = {key: value for key, value in hashed(config) if not _is_within(key, (*NEUTRAL_KEYS, *RESOLVED_KEYS))}
    without_seed = {key: value for key, value in kept.items() if key != "seed"}
    costly = {
        key: value
        for key, value in without_seed.items()
        if not _is_within(key, FREE_KEYS) and (key in COSTLY_OPTIM_KEYS or not _is_within(key, ("optim",)))
    }
    return Digests(*(digest([part, circumstances]) for part in (kept, without_seed, costly)))


def hashed(part: Any, prefix: str = "") -> Iterator[tuple[str, object]]:  # noqa: ANN401
    """The dotted keys and values of a dataclass, without those that have their default: see `sections`."""
    for one in fields(part):
        name, value = f"{prefix}{one.name}", getattr(part, one.name)
        if one.name == "others":
            yield from ((f"{prefix}{key}", item) for key, item in flatten(value).items())
        elif is_dataclass(value):
            yield from hashed(value, f"{name}.")
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{key}", item) for key, item in flatten(value).items())
        elif one.default is MISSING or value != one.default:
            yield name, value


def is_neutral(key: str) -> bool:
    """Whether a dotted key, or a group such as `hydra/launcher`, has no effect on the result of a run."""
    return _is_within(key.replace("/", "."), NEUTRAL_KEYS)


def _is_within(key: str, sections: Collection[str]) -> bool:
    """Whether a dotted key is one of these, or lies below one."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)
