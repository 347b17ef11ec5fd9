"""Identity of a run: digests of its resolved configuration, without keys that do not affect results."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

from intel_scenes.config import RunConfig
from intel_scenes.files import digest, flatten

# Keys, with all keys below them, that do not change the result of a run.
NEUTRAL_KEYS = (
    *("data.root", "data.cache_dir", "data.device_resident", "data.verify"),
    *("compare", "dry_run", "folder", "hydra", "keep_last", "logger", "study", "study_minutes", "sweep"),
    *("trainer.accelerator", "trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.profiler"),
)
# Keys left out of the digest; their resolved values are hashed instead: see `Facts`.
RESOLVED_KEYS = (
    *("model.weights", "data.exclude", "threads", "trainer.precision", "equal_steps"),
    *("data.labels", "data.test_fraction"),  # the fingerprint holds the split of each image
)
# Keys that do not change the cost of an epoch: rates, schedules and the number of epochs.
FREE_KEYS = (
    *("epochs", "num_steps", "scheduler", "lr_scale", "lr_scaling", "primary_metric", "recipe.class_weight"),
    *("recipe.label_smoothing", "recipe.head_lr_scale", "recipe.first_lr_scale", "recipe.views"),
)
DEVICE_KEYS = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")
COSTLY_OPTIM_KEYS = ("optim._target_", "optim.fused")


@dataclass(frozen=True)
class Facts:
    """Resolved values of what a configuration only names or leaves open; digests hold them in place of the keys.

    Attributes:
        weights: Digest of the initial weights; None for random ones.
        data: Fingerprint of the images.
        precision: Precision, as Lightning names it.
        threads: CPU threads of torch.
        stored: Shorter side and interpolation of images that are stored whole; None for squares.
        source: Digest of the source of a custom backbone; None for others.
    """

    weights: str | None
    data: str
    precision: str
    threads: int
    stored: tuple[int, str] | None = None
    source: str | None = None


@dataclass(frozen=True)
class Digests:
    """SHA-256 digests (hex) of a run.

    Attributes:
        config: Digest of the configuration with its seed.
        configuration: Digest of the configuration without its seed.
        resume: Digest of the configuration with its seed, without the number of devices.
        budget: Digest of what the cost of an epoch depends on.
    """

    config: str
    configuration: str
    resume: str
    budget: str


def digests(config: RunConfig, facts: Facts) -> Digests:
    """Return the digests of a resolved configuration."""
    circumstances = dict(hashed(facts))
    kept = _hashed_without(config, *NEUTRAL_KEYS, *RESOLVED_KEYS)
    without_seed = {key: value for key, value in kept.items() if key != "seed"}
    on_any_devices = {key: value for key, value in kept.items() if key not in DEVICE_KEYS}
    costly = {key: value for key, value in without_seed.items() if _is_costly(key)}
    return Digests(*(digest([part, circumstances]) for part in (kept, without_seed, on_any_devices, costly)))


def cost_digest(config: RunConfig) -> str:
    """Return a digest of what the cost of a composed run depends on, before its images and weights are read."""
    kept = _hashed_without(config, *NEUTRAL_KEYS, "seed")
    return digest({key: value for key, value in kept.items() if _is_costly(key) or key == "recipe.views"})


def composed_digest(config: RunConfig) -> str:
    """Return a digest of a composed run, before its images and weights are read: equal on machines with other paths."""
    return digest(_hashed_without(config, *NEUTRAL_KEYS, *RESOLVED_KEYS))


def _hashed_without(config: RunConfig, *left_out: str) -> dict[str, object]:
    """Return the keys and values of a configuration that are hashed, except some keys and everything below them."""
    return {key: value for key, value in hashed(config) if not _is_within(key, left_out)}


def _is_costly(key: str) -> bool:
    """Return whether the cost of an epoch depends on a key."""
    return not _is_within(key, FREE_KEYS) and (key in COSTLY_OPTIM_KEYS or not _is_within(key, ("optim",)))


def hashed(part: Any, prefix: str = "") -> Iterator[tuple[str, object]]:  # noqa: ANN401
    """Yield the dotted keys and values of a dataclass, without those that have their default: see `sections`."""
    for field in fields(part):
        name, value = f"{prefix}{field.name}", getattr(part, field.name)
        if field.name == "others":
            yield from ((f"{prefix}{key}", item) for key, item in flatten(value).items())
        elif is_dataclass(value):
            yield from hashed(value, f"{name}.")
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{key}", item) for key, item in flatten(value).items())
        elif field.default is MISSING or value != field.default:
            yield name, value


def is_neutral(key: str) -> bool:
    """Return whether a dotted key, or a group such as `hydra/launcher`, has no effect on the result of a run."""
    return _is_within(key.replace("/", "."), NEUTRAL_KEYS)


def _is_within(key: str, sections: Collection[str]) -> bool:
    """Return whether a dotted key is one of these, or below one."""
    return any(key == section or key.startswith(f"{section}.") for section in sections)
