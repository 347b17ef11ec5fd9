"""What each command is asked to do, section by section."""

import json
import logging
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml

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
    Within,
    from_plain,
    keys_without_field,
    not_one_of,
)

log = logging.getLogger(__name__)
# What stands in a composed configuration for what a run knows later: `${num_steps}`, `${folder}`, and `${epochs}` where
# a budget or `equal_steps` has to find them.
NUM_STEPS, FOLDER, EPOCHS = "{num_steps}", "{folder}", "{epochs}"
# Arguments of Lightning's Trainer on which the record relies, and what to set in their place.
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
MOST_ENLARGED = 8  # times; beyond, a batch takes gigabytes and shows nothing more
REFERENCE_BATCH_SIZE = 32  # at which `lr_scaling` leaves the rate as it is
# Those under which images stay float32 on their way in. Lightning takes either spelling of each; equal runs should have
# equal digests.
PRECISIONS = {
    **{"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"},
    **{name: name for name in ("32-true", "16-mixed", "bf16-mixed")},
}
# Arguments of torch's optimizers that would take any value for a true one; auto is ours.
SWITCHES: dict[str, tuple[str | bool, ...]] = {
    "fused": ("auto", True, False),
    **dict.fromkeys(("amsgrad", "capturable", "centered", "decoupled_weight_decay"), (True, False)),
    **dict.fromkeys(("differentiable", "foreach", "maximize", "nesterov"), (True, False)),
}
Precision = Annotated[int | str, Choice(("auto", *PRECISIONS))]
Views = Literal[1, "flip", "flip_crops"]  # kinds of test-time augmentation
Combine = Literal["mean", "vote", "soup"]  # ways to make one prediction of several runs
PrimaryMetric = Literal["accuracy", "balanced_accuracy"]  # what chooses and what verdicts are about


@dataclass(frozen=True)
class DataConfig(Section):
    """Which images, and how they are stored; see conf/data."""

    section = "data"

    source: Literal["intel", "folder", "synthetic"]
    root: str | None
    image_size: Count | None
    crop_fraction: Annotated[float, Within(0.01, 1)] | None
    batch_size: Count
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

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: One is of no use or missing, or two do not go together.
        """
        super().__post_init__()
        is_drawn = self.source == "synthetic"
        for name in ("num_train", "num_test", "drawing_seed"):
            if is_drawn and getattr(self, name) is None:
                raise MissingKey(f"data.{name}")
        if is_drawn and self.root is not None:
            raise UserError(
                "data.root has no effect with data=synthetic, which draws below data.cache_dir: leave one out"
            )
        # The network's own size is for photographs: squares are stored for all networks, and drawn in their size.
        if self.store_size is None and (is_drawn or self.store_rule == "square"):
            raise UserError(f"data.store_size=null {Whole(1).refusal(None)}")


@dataclass(frozen=True)
class AugmentConfig(Section):
    """What a training image goes through; see conf/augment.

    Attributes:
        scale: Least and greatest share of the area that a random crop shows; (1, 1) with `ratio` (1, 1) shows all of a
            square, and the middle square of another picture.
        ratio: Least and greatest ratio of a crop's width to its height.
        flip: Probability of a horizontal flip.
        policy: What changes an image before it is cropped: "trivial" (one operation of any strength, TrivialAugment of
            Müller and Hutter 2021), "rand" (two of a middle one, RandAugment of Cubuk et al. 2020), or None.
        vertical_flip: Probability of a vertical flip.
        rotate: Greatest angle of a random rotation in degrees, either way.
        brightness: Greatest change of a random factor of brightness, below or above 1; 0 leaves it.
        contrast: The same of contrast.
        saturation: The same of saturation.
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
        """Whether angles or colours change."""
        return any((self.rotate, self.brightness, self.contrast, self.saturation))

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            UserError: A range is empty or out of bounds.
        """
        super().__post_init__()
        scale, ratio = self.scale, self.ratio
        both = f"augment.scale={shown(scale)} and augment.ratio={shown(ratio)}"
        if not (0 < scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise UserError(f"{both} must rise from above 0, scale to 1 at most")
        is_whole = (scale[0], scale[1]) == (1, 1)
        if is_whole and ratio[0] <= 1 <= ratio[1] and ratio[0] < ratio[1]:
            raise UserError(f"{both}: the ratio has no effect on the whole image, change one")


NO_AUGMENTATION = AugmentConfig(scale=(1, 1), ratio=(1, 1), flip=0, policy=None)


@dataclass(frozen=True)
class ModelConfig(Section):
    """The backbone and its initial weights: DEFAULT, another published name, a file, or None for random ones.

    Attributes:
        library: That has the backbone; our own small networks are chosen by name beside those of torchvision.
        _target_: Of a custom backbone, the class or function that makes it.
        args: Further arguments of what makes a backbone of timm or a custom one.
    """

    section = "model"

    name: str
    weights: str | None
    library: Literal["torchvision", "timm", "custom"] = "torchvision"
    _target_: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: A custom backbone has no target, or a key has no effect.
        """
        super().__post_init__()
        is_custom = self.library == "custom"
        if is_custom and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", self._target_ or ""):
            raise UserError(
                f"model._target_={self._target_} must be package.module.Class, the class or function that makes the "
                "network"
            )
        if self._target_ is not None and not is_custom:
            raise UserError(
                f"model._target_={self._target_} has no effect with model.library={self.library}: set custom"
            )
        if self.args and self.library == "torchvision":
            raise UserError(
                f"model.args.{next(iter(self.args))} has no effect with model.library=torchvision: leave it out"
            )
        given = {"num_classes", "img_size", "in_chans", "pretrained", "checkpoint_path", "cache_dir", "features_only"}
        for name in self.args:
            if name in given or name.startswith("pretrained_"):
                raise UserError(f"model.args.{name} is given by the run itself: leave it out")

    @property
    def architecture(self) -> str:
        """The name, with the library where it is not torchvision or this package: `resnet34` exists in several."""
        return record.architecture(self.library, self.name)


@dataclass(frozen=True)
class OptimConfig(Section):
    """The optimizer: its rate, and in `others` its class and the arguments of that; see conf/optim."""

    section = "optim"

    lr: Rate
    others: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Checks the values that every optimizer understands alike.

        Raises:
            UserError: One is of no use.
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
    """How the rate goes: when it changes, and the class that changes it with its arguments; see conf/scheduler."""

    section = "scheduler"

    interval: Literal["step", "epoch", "validation"]
    factory: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: One is of no use, or a schedule that counts steps changes the rate at other times.
        """
        super().__post_init__()
        for key, value in flatten({"factory": self.factory}).items():
            if key.rpartition(".")[2] in ("gamma", "step_size") and (reason := Above0().refusal(value)):
                raise UserError(f"scheduler.{key}={shown(value)} {reason}")
        if self.interval != "step" and NUM_STEPS in str(self.factory):
            raise UserError(f"scheduler.interval={self.interval} does not fit: this schedule counts steps")


@dataclass(frozen=True)
class TrainerConfig(Section):
    """Where and how precisely to compute; in `others` further arguments of Lightning's Trainer; see conf/trainer."""

    section = "trainer"

    accelerator: str
    devices: int | str | tuple[int, ...]
    precision: Precision
    enable_progress_bar: bool
    others: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: One is of no use, or would make the record untrue.
        """
        super().__post_init__()
        for name, instead in RESERVED.items():
            if name in self.others:
                raise UserError(f"trainer.{name} would make the record untrue: leave it out and use {instead}")
        strategy = str(self.strategy)
        if any(kind in strategy for kind in ("spawn", "fork", "notebook")):
            raise UserError(
                f"trainer.strategy={strategy} trains in processes that cannot hand the run's record back: "
                "use trainer.strategy=ddp"
            )
        limit = self.limit_train_batches
        if reason := (Whole(1) if type(limit) is int else Within(1e-9, 1)).refusal(limit):
            raise UserError(f"trainer.limit_train_batches={shown(limit)} {reason}")
        if reason := Whole(1).refusal(num_batches := self.others.get("accumulate_grad_batches", 1)):
            raise UserError(f"trainer.accumulate_grad_batches={shown(num_batches)} {reason}")

    @property
    def strategy(self) -> object:
        """How several devices train together; None leaves it to Lightning."""
        return self.others.get("strategy")

    @property
    def limit_train_batches(self) -> int | float:
        """How many batches of an epoch, or which share of them."""
        limit: int | float = self.others.get("limit_train_batches", 1.0)
        return limit

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches of an optimizer step."""
        num_batches: int = self.others.get("accumulate_grad_batches", 1)
        return num_batches

    def num_batches(self, there: int) -> int:
        """Batches of an epoch, after Lightning's limit.

        Raises:
            UserError: There would be none.
        """
        limit = self.limit_train_batches
        batches = min(there, limit) if isinstance(limit, int) else int(there * limit)
        if not batches:
            raise UserError(
                f"trainer.limit_train_batches={limit} of {there} batches is less than one: raise it, or give their "
                "number, such as 1"
            )
        return batches

    def num_steps(self, num_batches: int, epochs: int) -> int:
        """Optimizer steps of so many epochs of so many batches."""
        return epochs * -(-num_batches // self.accumulate_grad_batches)


@dataclass(frozen=True)
class LoggerConfig(Section):
    """A tracker beside the record: its class, null for none, and the arguments of that; see conf/logger."""

    section = "logger"

    others: Mapping[str, Any]

    @property
    def target(self) -> str | None:
        """The class."""
        target: str | None = self.others.get("_target_")
        return target


@dataclass(frozen=True)
class RecipeConfig(Section):
    """How a backbone is trained; see conf/recipe/plain.yaml."""

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
        """Sides of the training crops, in the order of the epochs that they are shared out to."""
        if self.train_size is None:
            return (default,)
        return self.train_size if isinstance(self.train_size, tuple) else (self.train_size,)


@dataclass(frozen=True)
class SweepConfig(Section):
    """Of many runs."""

    section = "sweep"

    name: Name | None
    trials: Count
    plan: bool
    redo: Literal["changed"] | None
    fail_fast: bool
    confirm: Annotated[int, Whole(0)] = 0
    confirm_best: Count | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: One is of no use, or two do not go together.
        """
        super().__post_init__()
        if self.name == "":
            raise UserError("sweep.name is empty: give the folder below multirun/ a name, or leave it out")
        if self.confirm_best is not None and not self.confirm:
            raise UserError(
                f"sweep.confirm_best={self.confirm_best} has no effect without sweep.confirm=N: leave one out, or add "
                "the number of fresh seeds"
            )


@dataclass(frozen=True)
class CompareConfig(Section):
    """How runs are compared."""

    section = "compare"

    baseline: Name | None
    rope: Annotated[float, Within(0, 100)]
    audit: str | None = None
    natural_bounds: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: One is of no use.
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
        """The natural bounds by key."""
        bounds: dict[str, list[float]] = {}
        for text in self.natural_bounds or ():
            key, _, value = text.rpartition("=")
            bounds.setdefault(key, []).append(float(value))
        return bounds


@dataclass(frozen=True)
class StudyConfig(Section):
    """What a sweep is for."""

    section = "study"

    question: str | None
    compared: tuple[str, ...] | None
    tuned: tuple[str, ...] | None
    cut: tuple[str, ...] | None = None
    least_epochs: Count | None = None


# Values of recipe keys under which they do nothing, as they must where the backbone is frozen.
WITHOUT_BACKBONE = {
    **{"head_lr_scale": 1, "first_lr_scale": 1, "head_first": False, "trains_norms": True},
    **{"mixup": 0, "cutmix": 0, "train_size": None, "views": 1},
}
WITHOUT_WEIGHTS = {"head_first": False, "first_lr_scale": 1.0}  # what these recipe keys come to for random weights


@dataclass(frozen=True)
class RunConfig(Section):
    """One training: everything but the folder of its record, and the number of steps until the images are known."""

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

    @property
    def lr(self) -> float:
        """The rate of the backbone: `optim.lr` times `lr_scale`, scaled with the batch size as `lr_scaling` says."""
        batches = self.data.batch_size / REFERENCE_BATCH_SIZE
        factor = {"none": 1.0, "linear": batches, "sqrt": math.sqrt(batches)}[self.lr_scaling]
        return float(self.optim.lr * self.lr_scale * factor)

    @property
    def subset_seed(self) -> int:
        """That draws the subset of `data.train_fraction`: by default the run's own, so that seeds differ in it too."""
        return self.seed if self.data.subset_seed is None else self.data.subset_seed

    @property
    def effective_recipe(self) -> RecipeConfig:
        """The recipe as it is carried out: for random weights without what is of use for others alone."""
        if self.model.weights:
            return self.recipe
        return replace(self.recipe, head_first=False, first_lr_scale=1.0)

    def resolved(self, *, folder: str, epochs: int, num_steps: int) -> Self:
        """The same once the images are known.

        Args:
            folder: Of the record.
            epochs: As given, as many as fit into `budget_minutes`, or as many as `equal_steps` takes.
            num_steps: Of the whole training.
        """
        known = {NUM_STEPS: num_steps, EPOCHS: epochs, FOLDER: folder}
        return replace(
            self,
            optim=replace(self.optim, others=_filled(self.optim.others, known)),
            scheduler=replace(self.scheduler, factory=_filled(self.scheduler.factory, known)),
            trainer=replace(self.trainer, others=_filled(self.trainer.others, known)),
            logger=LoggerConfig(_filled(self.logger.others, known)),
            folder=folder,
            epochs=epochs,
            num_steps=num_steps,
        )


@dataclass(frozen=True)
class ExcludeConfig(Section):
    """What an audit lists in exclude.txt beside files that are there twice."""

    section = "exclude"

    labels: bool


@dataclass(frozen=True)
class AuditConfig(Section):
    """An audit of a folder of images."""

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
        """Checks the values.

        Raises:
            UserError: One is of no use, or two do not go together.
        """
        super().__post_init__()
        if not self.output:
            raise UserError(f"output={self.output} must be the name of a folder")
        if self.data.train_fraction != 1:
            raise UserError("data.train_fraction has no effect on an audit, which looks at all images: leave it out")
        if self.flip and self.exclude.labels:
            raise UserError(f"exclude.labels=true would list labels that flip={self.flip} made wrong: leave one out")


@dataclass(frozen=True)
class LabelledConfig(Section):
    """Labelled images to evaluate on; without any, what runs predicted of their own images counts."""

    section = "data"

    root: str | None
    labels: str | None
    cache_dir: str


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """Finished runs, each alone and all as one, on their own images or on those of a folder."""

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
    """Images without labels, by one finished run or several."""

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
    """Where images are; None takes them from elsewhere."""

    section = "data"

    root: str | None


@dataclass(frozen=True)
class StudyFolderConfig(Section):
    """A study folder to compare the runs of, and the form in which to tell."""

    compare: CompareConfig
    data: ImageRootConfig
    folder: str
    format: str


@dataclass(frozen=True)
class BenchConfig(Section):
    """What to measure on this machine."""

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
    """The configuration of the run in a folder.

    Keys that no field takes any more are named and ignored. What a record names as a class is not imported: the record
    may be a stranger's.

    Raises:
        UserError: There is none that can be read.
    """
    path = folder / record.CONFIG
    try:
        plain = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): move the folder away") from error
    if not isinstance(plain, Mapping):
        raise UserError(f"{path} is no configuration: move the folder away")
    for key in keys_without_field(RunConfig, plain):
        log.warning("%s: there is no key %s; it is ignored", path, key)
    try:
        return from_plain(RunConfig, plain)
    except MissingKey as error:
        raise UserError(f"{path} lacks {error.key}, which every run has: add it there, or run again") from error
    except UserError as error:
        raise UserError(f"{path} is no configuration ({error}): move the folder away") from error


def check(config: RunConfig, typed: Collection[str] = ()) -> None:
    """Checks what two values together make of no use, as far as that is known without images and weights.

    Args:
        config: As composed.
        typed: The keys that were typed: what has no effect is no mistake where a recipe or a study sets it.

    Raises:
        UserError: An option has no effect, or cannot be had, in this combination.
    """
    recipe = config.recipe
    if config.budget_minutes is not None:
        if "epochs" in typed and recipe.trained == "all":
            raise UserError("epochs has no effect with budget_minutes, which fits them: leave one out")
        if config.compile:
            raise UserError("budget_minutes is measured without compiling: leave compile out, or set epochs instead")
        if recipe.trained == "head":
            raise UserError(
                "budget_minutes is for whole networks: an epoch of a head is over before it can be measured"
            )
    _check_subset(config, typed)
    for key, neutral in WITHOUT_WEIGHTS.items():
        if config.model.weights is None and f"recipe.{key}" in typed and getattr(recipe, key) != neutral:
            raise UserError(f"recipe.{key} has no effect on random weights: leave it out, or set model.weights")
    sizes = recipe.train_sizes(default=1)
    if config.budget_minutes is None and len(sizes) > config.epochs:
        raise UserError(
            f"recipe.train_size={shown(sizes)} has more sizes than epochs={config.epochs}: train longer, or give "
            "fewer sizes"
        )
    if config.data.store_size is not None:
        check_sizes(config, config.data.store_size)
    if recipe.trained == "head":
        _check_head_alone(config)


def _check_subset(config: RunConfig, typed: Collection[str]) -> None:
    if config.equal_steps and config.budget_minutes is not None:
        raise UserError("equal_steps has no effect with budget_minutes, which fits the epochs: leave one out")
    counts_epochs = config.scheduler.interval != "step" and config.scheduler.factory.get("factor") != 1  # not constant
    if config.equal_steps and counts_epochs:
        raise UserError(
            "equal_steps=true does not fit a schedule that counts epochs, of which few images take more: set "
            "scheduler=multistep, or another that counts steps"
        )
    if config.data.train_fraction < 1 or "data.train_fraction" in typed:  # in a sweep, all images are one of its values
        return
    for key in ("data.subset_seed", "equal_steps"):
        if key in typed and (config.equal_steps or key != "equal_steps"):
            raise UserError(f"{key} has no effect on all training images: leave it out, or set data.train_fraction")


def check_sizes(config: RunConfig, store_size: int) -> None:
    """Checks that no image is enlarged to no purpose.

    Args:
        config: Of a run.
        store_size: Side, or shorter side, of the stored images in pixels.

    Raises:
        UserError: One is enlarged far beyond what it shows.
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
            "augment has no effect with recipe.trained=head, which computes features of the images as they are: "
            "set augment=none"
        )
    if config.compile:
        raise UserError("compile=true has no effect with recipe.trained=head: leave it out")
    for key, neutral in WITHOUT_BACKBONE.items():
        if getattr(config.recipe, key) != neutral:
            raise UserError(f"recipe.{key} has no effect with recipe.trained=head: leave it at {json.dumps(neutral)}")


def warn_of_late_steps(config: RunConfig) -> None:
    """Says where a schedule of steps does nothing in so few epochs."""
    step_size = config.scheduler.factory.get("step_size", 0)
    if step_size >= config.epochs:
        log.warning(
            "scheduler.factory.step_size=%s is beyond the last of %s epochs: the rate stays", step_size, config.epochs
        )


def _filled(values: Mapping[str, Any], known: Mapping[str, object]) -> dict[str, Any]:
    """Nested values with what is known in place of its placeholders."""

    def fill(item: object) -> object:
        if isinstance(item, Mapping):
            return {key: fill(one) for key, one in item.items()}
        if isinstance(item, list | tuple):
            return [fill(one) for one in item]
        if not isinstance(item, str):
            return item
        if item in known:
            return known[item]
        for placeholder, value in known.items():
            item = item.replace(placeholder, str(value))
        return item

    return {key: fill(item) for key, item in values.items()}
