"""Configuration of each command, section by section."""

import json
import logging
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from intel_scenes import record
from intel_scenes.errors import MissingKey, UserError, first_line
from intel_scenes.files import flatten, shown
from intel_scenes.sections import (
    Above0,
    Choice,
    Count,
    Fraction,
    InnerFraction,
    Name,
    Rate,
    Section,
    Seed,
    Sides,
    Whole,
    WholeOr,
    Windows,
    Within,
    from_plain,
    keys_without_field,
    not_one_of,
)

log = logging.getLogger(__name__)
# Placeholders in a composed configuration for values that a run knows later: `${num_steps}`, `${folder}`, and
# `${epochs}` where a budget or `equal_steps` determines them.
NUM_STEPS, FOLDER, EPOCHS = "{num_steps}", "{folder}", "{epochs}"
# Arguments of Lightning's Trainer that the record relies on, and what to set instead.
RESERVED = {
    "max_epochs": "epochs",
    "min_epochs": "epochs",
    "max_steps": "epochs",
    "min_steps": "epochs",
    "max_time": "epochs",
    "fast_dev_run": "trainer=debug",
    "logger": "the logger group",
    "callbacks": "recipe keys",
    "default_root_dir": "hydra.run.dir",
    "enable_checkpointing": "keep_last",
    "val_check_interval": "epochs",
    "check_val_every_n_epoch": "epochs",
    "overfit_batches": "++trainer.limit_train_batches",
    "limit_val_batches": "data.val_fraction",
    "num_sanity_val_steps": "trainer.limit_train_batches",
    "use_distributed_sampler": "data.batch_size",
    "plugins": "trainer.precision",
}
MOST_ENLARGED = 8  # factor; beyond, a batch takes gigabytes and shows no more detail
REFERENCE_BATCH_SIZE = 32  # for which `lr_scaling` does not change the rate
# Precisions that keep float32 input images. Lightning accepts both spellings of each; equal runs should have equal
# digests.
PRECISIONS = {
    **{"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"},
    **{name: name for name in ("32-true", "16-mixed", "bf16-mixed")},
}
# Arguments of torch's optimizers that would accept any value as true; auto is ours.
SWITCHES: dict[str, tuple[str | bool, ...]] = {
    "fused": ("auto", True, False),
    **dict.fromkeys(("amsgrad", "capturable", "centered", "decoupled_weight_decay"), (True, False)),
    **dict.fromkeys(("differentiable", "foreach", "maximize", "nesterov"), (True, False)),
}
# Ranges of arguments of torch's schedulers, by name, or by key where the name means something else in another class.
SCHEDULER_LIMITS: dict[str, Above0 | Within] = {
    **dict.fromkeys(("gamma", "step_size"), Above0()),
    **{"factory.power": Within(0, math.inf), "factory.end_factor": Within(0, 1)},
}
Precision = Annotated[int | str, Choice(("auto", *PRECISIONS))]
Views = Literal[1, "flip", "flip_crops"]  # kinds of test-time augmentation
Combine = Literal["mean", "vote", "soup"]  # ways to combine the predictions of several runs
PrimaryMetric = Literal["accuracy", "balanced_accuracy"]  # metric that chooses and that verdicts compare


@dataclass(frozen=True)
class DataConfig(Section):
    """Images and how they are stored; see conf/data."""

    section = "data"

    source: Literal["intel", "folder", "synthetic"]
    root: str | None
    image_size: Count | None
    crop_fraction: Annotated[float, Within(0.01, 1)] | None
    batch_size: Annotated[int | Literal["full"], WholeOr(1, "full")]
    val_fraction: InnerFraction
    split_seed: Seed
    store_size: Count | None
    cache_dir: str
    exclude: str | None
    device_resident: Literal["auto"] | bool
    on_unreadable: Literal["error", "skip"]
    store_rule: Literal["square", "whole"] = "square"
    num_train: Count | None = None
    num_test: Count | None = None
    drawing_seed: Seed | None = None
    test_fraction: InnerFraction | None = None
    labels: str | None = None
    train_fraction: Annotated[float, Within(1e-9, 1)] = 1
    subset_seed: Seed | None = None
    passes_per_epoch: Count = 1
    verify: bool = False

    @property
    def images_per_batch(self) -> int:
        """Number of images of a batch; `batch_size=full` must have been replaced by `RunConfig.with_batch_size`."""
        assert isinstance(self.batch_size, int)
        return self.batch_size

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is invalid or missing, or two contradict each other.
        """
        super().__post_init__()
        is_drawn = self.source == "synthetic"
        for name in ("num_train", "num_test", "drawing_seed"):
            if is_drawn and getattr(self, name) is None:
                raise MissingKey(f"data.{name}")
        if is_drawn and self.root is not None:
            raise UserError(
                "data.root has no effect with data=synthetic, which draws its images below data.cache_dir: leave it out"
            )
        # The network's own size is for photographs: squares are stored for all networks, and drawn in that size.
        if self.store_size is None and (is_drawn or self.store_rule == "square"):
            raise UserError(f"data.store_size=null {Whole(1).refusal(None)}")


@dataclass(frozen=True)
class AugmentConfig(Section):
    """Augmentation of training images; see conf/augment.

    Attributes:
        scale: Smallest and largest share of the area that a random crop covers; (1, 1) with `ratio` (1, 1) covers all
            of a square image, and the central square of another one.
        ratio: Smallest and largest aspect ratio of a crop, width to height.
        flip: Probability of a horizontal flip.
        policy: Operations before the crop: "trivial" (one operation of random strength, TrivialAugment of Müller and
            Hutter 2021), "rand" (two of medium strength, RandAugment of Cubuk et al. 2020), or None.
        vertical_flip: Probability of a vertical flip.
        rotate: Largest angle of a random rotation in degrees, in either direction.
        brightness: Largest deviation of the random brightness factor from 1; 0 leaves the brightness unchanged.
        contrast: Largest deviation of the random contrast factor from 1.
        saturation: Largest deviation of the random saturation factor from 1.
    """

    section = "augment"

    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: Fraction
    policy: Literal["trivial", "rand"] | None
    vertical_flip: Fraction = 0.0
    rotate: Annotated[float, Within(0, 180)] = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0

    @property
    def has_jitter(self) -> bool:
        """Whether the augmentation changes angles or colours."""
        return any((self.rotate, self.brightness, self.contrast, self.saturation))

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: A range is empty or out of bounds.
        """
        super().__post_init__()
        scale, ratio = self.scale, self.ratio
        both = f"augment.scale={shown(scale)} and augment.ratio={shown(ratio)}"
        if not (0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise UserError(f"{both} must each be two ascending numbers above 0, and those of scale at most 1")
        is_whole = (scale[0], scale[1]) == (1, 1)
        if is_whole and ratio[0] <= 1 <= ratio[1] and ratio[0] < ratio[1]:
            raise UserError(f"{both}: the ratio has no effect on whole images, so change one of them")


NO_AUGMENTATION = AugmentConfig(scale=(1, 1), ratio=(1, 1), flip=0, policy=None)


@dataclass(frozen=True)
class ModelConfig(Section):
    """Backbone and its initial weights: DEFAULT, another published name, a file, or None for random ones.

    Attributes:
        library: Library of the backbone; our own small networks are named beside those of torchvision.
        _target_: Class or function that makes a custom backbone.
        args: Further arguments for a backbone of timm or a custom one.
    """

    section = "model"

    name: str
    weights: str | None
    library: Literal["torchvision", "timm", "custom"] = "torchvision"
    _target_: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A custom backbone has no target, or a key has no effect.
        """
        super().__post_init__()
        is_custom = self.library == "custom"
        if is_custom and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", self._target_ or ""):
            raise UserError(
                f"model._target_={shown(self._target_)} must be package.module.Class, the class or function that makes "
                "the network"
            )
        if self._target_ is not None and not is_custom:
            raise UserError(
                f"model._target_={self._target_} has no effect with model.library={self.library}: set "
                "model.library=custom"
            )
        if self.args and self.library == "torchvision":
            raise UserError(
                f"model.args.{next(iter(self.args))} has no effect with model.library=torchvision: leave it out"
            )
        managed = {"num_classes", "img_size", "in_chans", "pretrained", "checkpoint_path", "cache_dir", "features_only"}
        for name in self.args:
            if name in managed or name.startswith("pretrained_"):
                raise UserError(f"model.args.{name} is set by the run itself: leave it out")

    @property
    def architecture(self) -> str:
        """Name of the backbone, with its library unless that is torchvision or this package."""
        return record.architecture(self.library, self.name)


@dataclass(frozen=True)
class OptimConfig(Section):
    """Optimizer: its learning rate, and in `others` its class and arguments; see conf/optim."""

    section = "optim"

    lr: Rate
    others: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check the values that have the same meaning for every optimizer.

        Raises:
            UserError: A value is invalid.
        """
        super().__post_init__()
        decay = self.others.get("weight_decay")
        if decay is not None and (reason := Within(0, math.inf).refusal(decay)):
            raise UserError(f"optim.weight_decay={shown(decay)} {reason}")
        for name, choices in SWITCHES.items():
            if (value := self.others.get(name)) is not None and (reason := not_one_of(value, choices)):
                raise UserError(f"optim.{name}={shown(value)} {reason}")


@dataclass(frozen=True)
class SchedulerConfig(Section):
    """Learning rate schedule: when the rate changes, and the class that changes it with its arguments."""

    section = "scheduler"

    interval: Literal["step", "epoch", "validation"]
    factory: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is invalid, or the interval does not fit a schedule that counts steps.
        """
        super().__post_init__()
        for key, value in flatten({"factory": self.factory}).items():
            limits = SCHEDULER_LIMITS.get(key) or SCHEDULER_LIMITS.get(key.rpartition(".")[2])
            if limits and (reason := limits.refusal(value)):
                raise UserError(f"scheduler.{key}={shown(value)} {reason}")
        if self.interval != "step" and NUM_STEPS in str(self.factory):
            raise UserError(
                f"scheduler.interval={self.interval} does not fit this schedule, which counts steps: set "
                "scheduler.interval=step"
            )


@dataclass(frozen=True)
class TrainerConfig(Section):
    """Device and precision; in `others` further arguments of Lightning's Trainer; see conf/trainer."""

    section = "trainer"

    accelerator: str
    devices: int | str | tuple[int, ...]
    precision: Precision
    enable_progress_bar: bool
    others: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is invalid, or managed by this package.
        """
        super().__post_init__()
        for name, instead in RESERVED.items():
            if name in self.others:
                raise UserError(f"trainer.{name} is managed by intel_scenes: leave it out and set {instead} instead")
        strategy = str(self.strategy)
        if any(kind in strategy for kind in ("spawn", "fork", "notebook")):
            raise UserError(
                f"trainer.strategy={strategy} trains in processes that cannot return the record of the run: set "
                "trainer.strategy=ddp instead"
            )
        limit = self.limit_train_batches
        if reason := (Whole(1) if type(limit) is int else Within(1e-9, 1)).refusal(limit):
            raise UserError(f"trainer.limit_train_batches={shown(limit)} {reason}")
        for name in ("accumulate_grad_batches", "num_nodes"):
            if reason := Whole(1).refusal(number := self.others.get(name, 1)):
                raise UserError(f"trainer.{name}={shown(number)} {reason}")

    @property
    def strategy(self) -> object:
        """Strategy of a training on several devices; None leaves it to Lightning."""
        return self.others.get("strategy")

    @property
    def limit_train_batches(self) -> int | float:
        """Number of batches of an epoch, or their share."""
        limit: int | float = self.others.get("limit_train_batches", 1.0)
        return limit

    @property
    def accumulate_grad_batches(self) -> int:
        """Number of batches of an optimizer step."""
        num_batches: int = self.others.get("accumulate_grad_batches", 1)
        return num_batches

    @property
    def num_nodes(self) -> int:
        """Number of machines of a run."""
        num_nodes: int = self.others.get("num_nodes", 1)
        return num_nodes

    def num_batches(self, available: int) -> int:
        """Return the number of batches of an epoch, after Lightning's limit.

        Raises:
            UserError: The limit leaves no batch.
        """
        limit = self.limit_train_batches
        batches = min(available, limit) if isinstance(limit, int) else int(available * limit)
        if not batches:
            raise UserError(
                f"trainer.limit_train_batches={limit} of {available} batches is less than one batch: raise it, or set "
                "a whole number of batches, such as 1"
            )
        return batches

    def num_steps(self, num_batches: int, epochs: int) -> int:
        """Return the number of optimizer steps of a training."""
        return epochs * -(-num_batches // self.accumulate_grad_batches)


@dataclass(frozen=True)
class LoggerConfig(Section):
    """Experiment tracker beside the record: its class (null for none) and arguments; see conf/logger."""

    section = "logger"

    others: Mapping[str, Any]

    @property
    def target(self) -> str | None:
        """Class of the tracker; None for none."""
        target: str | None = self.others.get("_target_")
        return target


@dataclass(frozen=True)
class RecipeConfig(Section):
    """Recipe that trains the backbone; see conf/recipe/plain.yaml."""

    section = "recipe"

    trained: Literal["all", "head"]
    label_smoothing: Fraction
    head_lr_scale: Rate
    ema_decay: InnerFraction | None
    first_lr_scale: Annotated[float, Within(1e-9, 1)]
    head_first: bool
    trains_norms: bool
    mixup: Annotated[float, Within(0, 100)]
    cutmix: Annotated[float, Within(0, 100)]
    train_size: Annotated[int | tuple[int, ...], Sides()] | None
    views: Views
    class_weight: Fraction = 0

    def train_sizes(self, default: int) -> tuple[int, ...]:
        """Return the sides of the training crops, in the order in which epochs use them."""
        if self.train_size is None:
            return (default,)
        return self.train_size if isinstance(self.train_size, tuple) else (self.train_size,)


@dataclass(frozen=True)
class SweepConfig(Section):
    """Options of a sweep."""

    section = "sweep"

    name: Name | None
    trials: Count
    plan: bool
    redo: Literal["changed"] | None
    fail_fast: bool
    confirm: Annotated[int, Whole(0)] = 0
    confirm_best: Count | None = None
    shard: Name | None = None
    plan_file: str | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is invalid, or two contradict each other.
        """
        super().__post_init__()
        if self.name == "":
            raise UserError("sweep.name is empty: name a folder below multirun/, or leave it out")
        if self.confirm_best is not None and not self.confirm:
            raise UserError(
                f"sweep.confirm_best={self.confirm_best} has no effect without sweep.confirm=N: leave it out, or set "
                "the number of fresh seeds"
            )
        number, _, of = str(self.shard).partition("/")
        if self.shard is not None and not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UserError(
                f"sweep.shard={self.shard} is not a shard: set NUMBER/TOTAL, such as 1/8 for the first of eight"
            )
        if self.plan_file == "":
            raise UserError("sweep.plan_file is empty: name a file, or leave it out")


@dataclass(frozen=True)
class CompareConfig(Section):
    """Options of a comparison."""

    section = "compare"

    baseline: Name | None
    rope: Annotated[float, Within(0, 100)]
    audit: str | None = None
    natural_bounds: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is invalid.
        """
        super().__post_init__()
        try:
            _ = self.bounds
        except ValueError as error:
            raise UserError(
                f"compare.natural_bounds={shown(self.natural_bounds)} must be a list of KEY=NUMBER, such as "
                "[optim.weight_decay=0]"
            ) from error

    @property
    def bounds(self) -> dict[str, list[float]]:
        """Natural bounds by key."""
        bounds: dict[str, list[float]] = {}
        for text in self.natural_bounds or ():
            key, _, value = text.rpartition("=")
            bounds.setdefault(key, []).append(float(value))
        return bounds


@dataclass(frozen=True)
class StudyConfig(Section):
    """Question of a study, and how it may be shortened."""

    section = "study"

    question: str | None
    compared: tuple[str, ...] | None
    tuned: tuple[str, ...] | None
    cut: tuple[str, ...] | None = None
    least_epochs: Count | None = None


# Values for which recipe keys have no effect, as required for a frozen backbone.
WITHOUT_BACKBONE = {
    **{"head_lr_scale": 1, "first_lr_scale": 1, "head_first": False, "trains_norms": True},
    **{"mixup": 0, "cutmix": 0, "train_size": None, "views": 1},
}
WITHOUT_WEIGHTS = {"head_first": False, "first_lr_scale": 1.0}  # effective values of recipe keys for random weights


@dataclass(frozen=True)
class RunConfig(Section):
    """Configuration of one training; its folder and number of steps are None until they are known."""

    data: DataConfig
    augment: AugmentConfig
    model: ModelConfig
    optim: OptimConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    recipe: RecipeConfig
    sweep: SweepConfig
    compare: CompareConfig
    study: StudyConfig
    epochs: Count
    budget_minutes: Rate | None
    seed: Seed
    threads: Count | None
    compile: bool
    lr_scale: Rate
    lr_scaling: Literal["none", "linear", "sqrt"]
    dry_run: bool
    keep_last: bool
    folder: str | None
    num_steps: Annotated[int, Whole(0)] | None
    primary_metric: PrimaryMetric = "accuracy"
    equal_steps: bool = False
    study_minutes: Rate | None = None
    averages: Annotated[tuple[float, ...], Windows()] | None = None
    noise_scale: Annotated[int, Whole(0)] = 0
    batch_growth: Rate | None = None

    @property
    def untimed(self) -> str | None:
        """Option whose time the measured steps of a budget do not include; None where all is included."""
        return "compile=true" if self.compile else f"noise_scale={self.noise_scale}" if self.noise_scale else None

    @property
    def lr(self) -> float:
        """Learning rate of the backbone: `optim.lr` times `lr_scale`, scaled with a step's images by `lr_scaling`."""
        rate = float(self.optim.lr * self.lr_scale)
        if self.lr_scaling == "none":
            return rate
        batches = self.trainer.accumulate_grad_batches * self.data.images_per_batch / REFERENCE_BATCH_SIZE
        return rate * (batches if self.lr_scaling == "linear" else math.sqrt(batches))

    @property
    def subset_seed(self) -> int:
        """Seed that draws the subset of `data.train_fraction`; by default the run's own, so that subsets vary too."""
        return self.seed if self.data.subset_seed is None else self.data.subset_seed

    @property
    def effective_recipe(self) -> RecipeConfig:
        """Recipe without the ingredients that only apply to pretrained weights, where the weights are random."""
        if self.model.weights:
            return self.recipe
        return replace(self.recipe, head_first=False, first_lr_scale=1.0)

    def with_batch_size(self, batch_size: int) -> Self:
        """Return the configuration with the number of images that `data.batch_size=full` stands for.

        Digests and record hold that number.

        Args:
            batch_size: Number of images in a full batch; another `data.batch_size` stays as it is.
        """
        if self.data.batch_size != "full":
            return self
        return replace(self, data=replace(self.data, batch_size=batch_size))

    def resolved(self, *, folder: str, epochs: int, num_steps: int) -> Self:
        """Return the configuration with the values that depend on the images.

        Args:
            folder: Folder of the record.
            epochs: Epochs as configured, as fit into `budget_minutes`, or as `equal_steps` requires.
            num_steps: Optimizer steps of the whole training.
        """
        values = {NUM_STEPS: num_steps, EPOCHS: epochs, FOLDER: folder}
        return replace(
            self,
            optim=replace(self.optim, others=_filled(self.optim.others, values)),
            scheduler=replace(self.scheduler, factory=_filled(self.scheduler.factory, values)),
            trainer=replace(self.trainer, others=_filled(self.trainer.others, values)),
            logger=LoggerConfig(_filled(self.logger.others, values)),
            folder=folder,
            epochs=epochs,
            num_steps=num_steps,
        )


@dataclass(frozen=True)
class ExcludeConfig(Section):
    """What an audit lists in exclude.txt in addition to duplicates."""

    section = "exclude"

    labels: bool


@dataclass(frozen=True)
class AuditConfig(Section):
    """Configuration of an audit of a folder of images."""

    data: DataConfig
    model: ModelConfig
    exclude: ExcludeConfig
    output: str
    near: Annotated[float, Within(0, 1)]
    folds: Annotated[int, Whole(2)]
    seed: Seed
    threads: Count | None
    precision: Precision
    flip: Annotated[float, Within(0, 0.5)]

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: A value is invalid, or two contradict each other.
        """
        super().__post_init__()
        if not self.output:
            raise UserError(f"output={self.output} must be the name of a folder")
        if self.data.train_fraction != 1:
            raise UserError("data.train_fraction has no effect on an audit, which checks all images: leave it out")
        if self.flip and self.exclude.labels:
            raise UserError(
                f"exclude.labels=true would list labels that flip={self.flip} has changed: leave one of them out"
            )


@dataclass(frozen=True)
class LabelledConfig(Section):
    """Labelled images to evaluate on; without any, runs are evaluated by the predictions in their records."""

    section = "data"

    root: str | None
    labels: str | None
    cache_dir: str


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """Configuration of an evaluation of finished runs, each alone and all combined."""

    data: LabelledConfig
    run: str | tuple[str, ...]
    split: Literal["train", "val", "test"] | None
    combine: Combine
    views: Views | None
    output: str | None
    output_weights: str | None
    trust: bool = False


@dataclass(frozen=True)
class PredictConfig(Section):
    """Configuration of the prediction of images by finished runs."""

    run: str | tuple[str, ...]
    images: str | tuple[str, ...]
    output: str | None
    abstain: Fraction | None
    views: Views | None
    batch_size: Count
    threads: Count | None
    trust: bool


@dataclass(frozen=True)
class ImageRootConfig(Section):
    """Folder of images; None uses a default of the command."""

    section = "data"

    root: str | None


@dataclass(frozen=True)
class StudyFolderConfig(Section):
    """Configuration of the comparison of a study folder, and the format of its output."""

    compare: CompareConfig
    data: ImageRootConfig
    folder: str | tuple[str, ...]
    format: str
    output: str | None = None


@dataclass(frozen=True)
class BenchConfig(Section):
    """Configuration of the benchmarks."""

    data: ImageRootConfig
    what: str | tuple[str, ...]
    repeats: Count
    threads: Count | None
    image_size: Count
    models: str | tuple[str, ...]
    precision: Precision
    channels_last: bool
    compile: bool
    run: str | None
    images: str | tuple[str, ...] | None
    output: str


COMMANDS: dict[str, type[Section]] = {
    **{"train": RunConfig, "audit": AuditConfig, "evaluate": EvaluateConfig},
    **{"predict": PredictConfig, "compare": StudyFolderConfig, "bench": BenchConfig},
}


def of_record(folder: Path) -> RunConfig:
    """Return the configuration of the run in a folder.

    A warning names keys that no longer exist, which are ignored. Classes named in the record are not imported: the
    record may be untrusted.

    Raises:
        UserError: The configuration is missing or cannot be read.
    """
    path = folder / record.CONFIG
    try:
        plain = record.read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): move the folder away") from error
    if not isinstance(plain, Mapping):
        raise UserError(f"{path} is not a configuration: move the folder away")
    for key in keys_without_field(RunConfig, plain):
        log.warning("%s: unknown key %s; it is ignored", path, key)
    try:
        return from_plain(RunConfig, plain)
    except MissingKey as error:
        raise UserError(f"{path} lacks {error.key}, which every run has: add it there, or run again") from error
    except UserError as error:
        raise UserError(f"{path} is not a valid configuration ({error}): move the folder away") from error


def check(config: RunConfig, typed: Collection[str] = ()) -> None:
    """Check combinations of values, as far as possible without images and weights.

    Args:
        config: Composed configuration.
        typed: Keys that were typed: an option without effect is no error where a recipe or a study sets it.

    Raises:
        UserError: An option has no effect, or is impossible, in this combination.
    """
    recipe = config.recipe
    if config.budget_minutes is not None:
        if "epochs" in typed and recipe.trained == "all":
            raise UserError(
                "epochs has no effect with budget_minutes, which determines the epochs: leave one of them out"
            )
        if config.untimed:
            raise UserError(
                f"budget_minutes cannot be combined with {config.untimed}, whose time is not part of its measured "
                "steps: leave it out, or set epochs instead"
            )
        if recipe.trained == "head":
            raise UserError(
                "budget_minutes does not apply to recipe.trained=head, whose epochs are too short to measure: set "
                "epochs instead"
            )
    _check_subset(config, typed)
    for key, neutral in WITHOUT_WEIGHTS.items():
        if config.model.weights is None and f"recipe.{key}" in typed and getattr(recipe, key) != neutral:
            raise UserError(f"recipe.{key} has no effect with random weights: leave it out, or set model.weights")
    sizes = recipe.train_sizes(default=1)
    if config.budget_minutes is None and len(sizes) > config.epochs:
        raise UserError(
            f"recipe.train_size={shown(sizes)} has more sizes than epochs={config.epochs}: set more epochs or fewer "
            "sizes"
        )
    if config.data.store_size is not None:
        check_sizes(config, config.data.store_size)
    if recipe.trained == "head":
        _check_head_alone(config)
    _check_batches(config)


def _check_batches(config: RunConfig) -> None:
    passes = config.data.passes_per_epoch
    if passes > 1 and config.recipe.trained != "head":
        raise UserError(
            f"data.passes_per_epoch={passes} is for recipe.trained=head only, because an image is augmented once per "
            "epoch: leave it out, and set epochs instead"
        )
    if config.batch_growth is None:
        return
    trainer = config.trainer
    limit = trainer.limit_train_batches
    for refused, is_set, reason in (
        ("data.batch_size=full", config.data.batch_size == "full", "is all training images and cannot grow"),
        (
            "scheduler.interval=validation",
            config.scheduler.interval == "validation",
            "sets the rate during the training",
        ),
        ("budget_minutes", config.budget_minutes is not None, "times steps of one size"),
        ("study_minutes", config.study_minutes is not None, "times steps of one size"),
        ("compile=true", config.compile, "would compile for each batch size"),
        ("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches > 1, "makes steps of equal batches"),
        ("trainer.limit_train_batches", isinstance(limit, int) or limit < 1, "leaves out images"),
    ):
        if is_set:
            raise UserError(f"batch_growth cannot be combined with {refused}, which {reason}: leave one of them out")


def _check_subset(config: RunConfig, typed: Collection[str]) -> None:
    if config.equal_steps and config.budget_minutes is not None:
        raise UserError(
            "equal_steps has no effect with budget_minutes, which determines the epochs: leave one of them out"
        )
    counts_epochs = config.scheduler.interval != "step" and config.scheduler.factory.get("factor") != 1  # not constant
    if config.equal_steps and counts_epochs:
        raise UserError(
            "equal_steps=true does not fit a schedule that counts epochs, because it trains smaller subsets for more "
            "epochs: set scheduler=multistep, or another one that counts steps"
        )
    if config.data.train_fraction < 1 or "data.train_fraction" in typed:  # in a sweep, 1 may be one of its values
        return
    for key in ("data.subset_seed", "equal_steps"):
        if key in typed and (config.equal_steps or key != "equal_steps"):
            raise UserError(f"{key} has no effect on the whole training set: leave it out, or set data.train_fraction")


def check_sizes(config: RunConfig, store_size: int) -> None:
    """Check that no image is enlarged far beyond its resolution.

    Args:
        config: Configuration of a run.
        store_size: Side, or shorter side, of the stored images in pixels.

    Raises:
        UserError: A size is more than `MOST_ENLARGED` times as large.
    """
    sizes = [("recipe.train_size", size) for size in config.recipe.train_sizes(default=0)]
    for key, size in [*sizes, ("data.image_size", config.data.image_size or 0)]:
        if size > MOST_ENLARGED * store_size:
            raise UserError(
                f"{key}={size} enlarges images of data.store_size={store_size} more than {MOST_ENLARGED} times: "
                "lower it, or store larger images"
            )


def _check_head_alone(config: RunConfig) -> None:
    if config.augment != NO_AUGMENTATION:
        raise UserError(
            "augment has no effect with recipe.trained=head, which computes features of the unaugmented images: set "
            "augment=none"
        )
    if config.compile:
        raise UserError("compile=true has no effect with recipe.trained=head: leave it out")
    for key, neutral in WITHOUT_BACKBONE.items():
        if getattr(config.recipe, key) != neutral:
            raise UserError(
                f"recipe.{key} has no effect with recipe.trained=head: set recipe.{key}={json.dumps(neutral)}"
            )


def warn_of_late_steps(config: RunConfig) -> None:
    """Warn if the first step of a step schedule comes after the last epoch."""
    step_size = config.scheduler.factory.get("step_size", 0)
    if step_size >= config.epochs:
        log.warning(
            "scheduler.factory.step_size=%s is not below epochs=%s, so the learning rate never changes: lower it, or "
            "choose another scheduler",
            step_size,
            config.epochs,
        )


def _filled(nested: Mapping[str, Any], values: Mapping[str, object]) -> dict[str, Any]:
    """Return nested values with placeholders replaced by their values."""

    def fill(item: object) -> object:
        if isinstance(item, Mapping):
            return {key: fill(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [fill(entry) for entry in item]
        if not isinstance(item, str):
            return item
        if item in values:
            return values[item]
        for placeholder, value in values.items():
            item = item.replace(placeholder, str(value))
        return item

    return {key: fill(item) for key, item in nested.items()}
