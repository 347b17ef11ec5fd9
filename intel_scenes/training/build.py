"""Builders of the parts of a run, each from the sections of the configuration that it needs."""

import json
import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from intel_scenes.config import (
    EPOCHS,
    FOLDER,
    NO_AUGMENTATION,
    NUM_STEPS,
    AugmentConfig,
    DataConfig,
    ModelConfig,
    RecipeConfig,
    RunConfig,
    check,
    check_sizes,
)
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.layouts import Layout
from intel_scenes.data.mixing import Mixing
from intel_scenes.data.pipelines import ImagePipeline, View
from intel_scenes.data.sources import Drawn, Folder, Kaggle, Source
from intel_scenes.data.splits import Splits
from intel_scenes.errors import UserError, counted, few, first_line
from intel_scenes.files import flatten
from intel_scenes.known_keys import check_keys
from intel_scenes.models import libraries
from intel_scenes.models.backbones import check_image_size, classifiers
from intel_scenes.models.class_weights import class_weights
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.models.norms import batch_norms
from intel_scenes.models.weights import Weights
from intel_scenes.runtime import Runtime, make_trainer
from intel_scenes.sections import as_plain
from intel_scenes.training.averaging import WarmedEMA, WarmedNorms
from intel_scenes.training.batch_growth import Growth, grown, rates_of
from intel_scenes.training.checkpoints import FiniteLoss, WholeCheckpointIO
from intel_scenes.training.frozen_features import linear_head
from intel_scenes.training.window_averages import WindowAverages

log = logging.getLogger(__name__)

LARGE_TENSOR = 2**15  # mean number of weights per tensor of a network from which fused SGD is slower on a CPU
EXTRAS = ("wandb", "mlflow")  # of the package, each named after the library that a logger needs


def check_parts(config: RunConfig, typed: Collection[str]) -> None:
    """Check a configuration before any image or file of weights is read.

    Args:
        config: The composed configuration.
        typed: Keys that were typed.

    Raises:
        UserError: It holds something that no run could use.
    """
    check_keys(as_plain(config))  # also against the arguments of the classes that are instantiated
    check(config, typed)
    _check_optimizer(config)
    check_sizes(config, config.data.store_size or view_of(config.model, config.data).resize)
    weights = config.model.weights
    is_name = weights is not None and re.fullmatch(r"\w+", weights)  # a file may be written later
    libraries.resolve_weights(config.model if is_name else replace(config.model, weights=None))
    libraries.check_importable(config.model)


def _check_optimizer(config: RunConfig) -> None:
    """Build an optimizer of torch or ours for one small matrix, which checks the kinds and ranges of its arguments.

    Others are left to `build_classifier`: they may need the network, or the number of steps or epochs.

    Raises:
        UserError: The optimizer refuses one of them.
    """
    arguments = as_plain(config.optim)
    is_known = str(arguments.get("_target_")).startswith(("torch.optim.", "intel_scenes."))
    if not is_known or any(placeholder in str(arguments) for placeholder in (NUM_STEPS, EPOCHS, FOLDER)):
        return
    if arguments.get("fused") == "auto":
        arguments["fused"] = False
    try:
        optimizer = hydra.utils.instantiate(arguments, _convert_="all")
        optimizer([{"params": [nn.Parameter(torch.zeros(2, 2))], "lr": config.optim.lr * config.lr_scale}])
    except Exception as error:  # constructors refuse wrong arguments in many ways
        values = ", ".join(f"{key}={value}" for key, value in arguments.items() if not key.startswith("_"))
        call = f"{arguments.get('_target_')}({values})"
        raise UserError(f"optim: {call} fails with {first_line(error)}; correct a value of optim") from error


def build_data(config: RunConfig, typed: Collection[str] = (), *, reports: bool = True) -> SceneDataModule:
    """Read, decode and split the images of a run, as its network sees them.

    Args:
        config: Configuration of the run.
        typed: Keys that were typed.
        reports: Whether to log what `report_images` says.

    Raises:
        UserError: The images are missing or cannot be read, or a key that was typed has no effect on them.
    """
    module = read_images(
        config.data,
        config.model,
        seed=config.seed,
        augmentation=config.augment,
        recipe=config.recipe,
        subset_seed=config.subset_seed,
        typed=typed,
    )
    if reports:
        report_images(module)
    return module


def read_images(
    data: DataConfig,
    model: ModelConfig,
    *,
    seed: int,
    augmentation: AugmentConfig = NO_AUGMENTATION,
    recipe: RecipeConfig | None = None,
    subset_seed: int = 0,
    cuts_val: bool = True,
    typed: Collection[str] = (),
) -> SceneDataModule:
    """Read, decode and split images, as a network with its weights sees them.

    Args:
        data: The images to read.
        model: The network.
        seed: Seed of their order and augmentation.
        augmentation: Augmentation of the training images.
        recipe: Mixing, training sizes and test-time augmentation of the images; None uses none of them.
        subset_seed: Seed of the subset of `data.train_fraction`.
        cuts_val: Whether a validation set is cut from the training set if the folder has none.
        typed: Keys that were typed.

    Raises:
        UserError: The images are missing or cannot be read, or a key that was typed has no effect on them.
    """
    view = view_of(model, data)
    mixing, tta = (Mixing(recipe.mixup, recipe.cutmix), recipe.views) if recipe else (Mixing(0, 0), 1)
    module = SceneDataModule(
        source_of(data),
        ImagePipeline(view, augmentation, mixing, tta=tta, seed=seed),
        train_sizes=recipe.train_sizes(default=view.size) if recipe else (view.size,),
        batch_size=data.batch_size,
        passes_per_epoch=data.passes_per_epoch,
        seed=seed,
        val_fraction=data.val_fraction if cuts_val else None,
        split_seed=data.split_seed,
        test_fraction=data.test_fraction,
        store_size=data.store_size or view.resize,
        store_rule=data.store_rule,
        cache_dir=Path(data.cache_dir).expanduser(),
        on_unreadable=data.on_unreadable,
        exclude=read_excluded(data.exclude, *([""] if data.labels else [])),  # paths of data.labels have no prefix
        train_fraction=data.train_fraction,
        subset_seed=subset_seed,
        verify=data.verify,
    )
    _check_fractions(module.layout, typed)
    module.prepare_data()
    module.setup()
    return module


def _check_fractions(layout: Layout, typed: Collection[str]) -> None:
    """Refuse the fraction of a split that is not cut because the folder has it."""
    own = {"data.val_fraction": layout.val, "data.test_fraction": None if layout.test_fraction else layout.test}
    for key, split in own.items():
        if split is not None and key in typed:
            raise UserError(f"{key} has no effect, because {split.root} holds that split already: leave it out")


def source_of(data: DataConfig) -> Source:
    """Return the source of the images.

    Raises:
        UserError: A folder is needed, and none is set.
    """
    root = Path(data.root).expanduser() if data.root else None
    if data.source == "synthetic":
        counts = (data.num_train or 0, data.num_test or 0, data.store_size or 0)  # their file sets all three
        return Drawn(*counts, data.drawing_seed or 0)
    if data.source == "folder":
        if root is None and data.labels is None:
            raise UserError(
                "data=folder needs data.root=FOLDER, with the folders train/CLASS and test/CLASS or one folder for "
                "each class, or data.labels=FILE.csv"
            )
        return Folder(root, _labels_file(data.labels, root) if data.labels else None)
    return Kaggle(root)


def _labels_file(name: str, root: Path | None) -> Path:
    """Return the file of that name in the current folder, else in the folder of the images."""
    file = Path(name).expanduser()
    return root / file if root is not None and not file.exists() and (root / file).exists() else file


def view_of(model: ModelConfig, data: DataConfig) -> View:
    """Return how a network with its weights sees the stored images.

    Raises:
        UserError: There is no such network.
    """
    preprocessing = libraries.preprocessing_of(model)
    size = data.image_size or preprocessing.crop_size
    fraction = data.crop_fraction or preprocessing.crop_size / preprocessing.resize_size
    return View(size, round(size / fraction), preprocessing.interpolation, preprocessing.mean, preprocessing.std)


def read_excluded(path: str | None, prefix: str = "seg_train/") -> frozenset[str]:
    """Read the paths of training images to leave out, one per line of a text file; lines with # are comments.

    A path in double quotes is JSON text, which can hold any character.

    Args:
        path: The file; None leaves nothing out.
        prefix: Prefix that is removed from a path that starts with it.

    Raises:
        UserError: The file cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        lines = [line.strip() for line in Path(path).expanduser().read_text().splitlines()]
        lines = [str(json.loads(line)) if line.startswith('"') else line for line in lines if not line.startswith("#")]
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.exclude={path} cannot be read ({getattr(error, 'strerror', None) or error}): name a text file"
        ) from error
    return frozenset(line.removeprefix(prefix) for line in lines if line)


def report_images(module: SceneDataModule) -> None:
    """Log the splits, how photographs are stored, and warnings about ignored, corrupt and duplicate files."""
    log.info("found: %s", module.layout.summary(module.val_fraction))
    if module.store_rule == "whole":
        num_bytes = module.images.values.nbytes + module.test_images.values.nbytes
        *others, last = (f"{len(stored.labels):,} {split}" for split, stored in module.images_by_split.items())
        log.info(
            "%s and %s images are stored whole (of those longer than 2:1, the center), with a shorter side of %d px: "
            "%s in %s",
            ", ".join(others),
            last,
            module.store_size,
            f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB",
            module.cache_dir,
        )
    if ignored := [f"{part.root}/{name}" for part in module.layout.by_split.values() for name in part.left_out]:
        number = counted(len(ignored), "entry", "entries")
        log.warning("ignored %s in the class folders that are not image files: %s", number, few(ignored))
    if undecoded := [path for reasons in module.unreadable.values() for path in reasons]:
        log.warning("%s could not be decoded; skipped: %s", counted(len(undecoded), "image"), few(undecoded))
    splits = module.splits
    trained_on = "train or val" if splits.has_own_val else "train"
    for noun, paths, where in (
        ("validation image", splits.val_duplicates, "train"),
        ("test image", splits.test_duplicates, trained_on),
    ):
        if paths:
            verb = "is" if len(paths) == 1 else "are"
            log.warning("%s %s also in %s: %s", counted(len(paths), noun), verb, where, few(paths))


def build_network(config: RunConfig, weights: Weights | None, data: SceneDataModule, num_devices: int = 1) -> nn.Module:
    """Build the backbone with a head for the classes of the images.

    Raises:
        UserError: There is no such model, or it cannot take images of this size or so few per step and device.
    """
    name, recipe = config.model.name, config.recipe
    network = libraries.build(config.model, len(data.splits.classes), weights=weights, image_size=data.view.size)
    for size in {data.view.size, *data.train_sizes}:
        check_image_size(network, name, size, _images_per_norm(config, data.batch_size, num_devices))
    if not recipe.trains_norms and not any(batch_norms(network)):
        raise UserError(f"recipe.trains_norms=false has no effect on {name}, which has no batch norms: leave it out")
    if recipe.head_first and weights and not linear_head(network):
        raise UserError(f"recipe.head_first=true has no effect on {name}, whose head is not linear: leave it out")
    return network


def _images_per_norm(config: RunConfig, batch_size: int, num_devices: int) -> int:
    """Return how many images batch norms see at once in training; two, which suffice, if they are not trained."""
    if not config.recipe.trains_norms or config.recipe.trained == "head":
        return 2
    return batch_size if config.trainer.others.get("sync_batchnorm") else batch_size // num_devices


def build_classifier(config: RunConfig, network: nn.Module, splits: Splits, runtime: Runtime) -> SceneClassifier:
    """Build the LightningModule of a network, or of its head alone, for the classes of the images.

    Raises:
        UserError: The optimizer or the scheduler refuses its arguments.
    """
    recipe, growth = config.effective_recipe, growth_of(config, len(splits.train))
    try:
        classifier = SceneClassifier(
            network,
            classifiers(network),
            hydra.utils.instantiate(_optim_arguments(config, network, runtime), _convert_="all"),
            growth.scheduler if growth else _scheduler(config),
            interval="step" if growth else config.scheduler.interval,
            num_classes=len(splits.classes),
            lr=config.lr,
            head_lr_scale=recipe.head_lr_scale,
            first_lr_scale=recipe.first_lr_scale,
            trains_norms=recipe.trains_norms,
            label_smoothing=recipe.label_smoothing,
            class_weights=weights_of_classes(config, splits),
            seed=config.seed,
        )
        classifier.configure_optimizers()  # so that it fails before the run begins
    except (TypeError, ValueError, ArithmeticError, hydra.errors.HydraException) as error:
        raise UserError(f"optim or scheduler fails with {first_line(error)}; correct a value of it") from error
    return classifier.to(memory_format=torch.channels_last)


def growth_of(config: RunConfig, num_images: int) -> Growth | None:
    """Return the steps of a run with `batch_growth`; None without.

    Args:
        config: Configuration whose schedule has the number of steps of a run without growth.
        num_images: Number of training images.

    Raises:
        UserError: The batch cannot grow, or the scheduler refuses its arguments.
    """
    if config.batch_growth is None:
        return None
    batch_size, passes = config.data.images_per_batch, config.data.passes_per_epoch
    steps_per_epoch = passes * (num_images // batch_size)
    if batch_size >= num_images:
        raise UserError(
            f"batch_growth has no effect with data.batch_size={batch_size}, which is all {num_images} training images: "
            "lower data.batch_size, or leave batch_growth out"
        )
    interval = config.scheduler.interval
    assert interval != "validation", "refused by `check`"
    try:
        rates = rates_of(
            _scheduler(config),
            lr=config.lr,
            interval=interval,
            num_steps=config.epochs * steps_per_epoch,
            steps_per_epoch=steps_per_epoch,
        )
    except (TypeError, ValueError, ArithmeticError, hydra.errors.HydraException) as error:
        raise UserError(f"scheduler fails with {first_line(error)}; correct a value of it") from error
    if rates == sorted(rates):
        raise UserError(
            "batch_growth has no effect with a schedule that never lowers the learning rate: choose another scheduler, "
            "such as scheduler=cosine, or leave batch_growth out"
        )
    return grown(
        rates,
        lr=config.lr,
        batch_size=batch_size,
        num_images=num_images,
        num_passes=config.epochs * passes,
        exponent=config.batch_growth,
    )


def _scheduler(config: RunConfig) -> Callable[..., Any]:
    """Return the factory that takes an optimizer and returns the scheduler."""
    return unguarded(hydra.utils.instantiate(config.scheduler.factory, _convert_="all"))


def weights_of_classes(config: RunConfig, splits: Splits) -> Tensor | None:
    """Return the class weights of the loss, from the training images; None if the recipe weights no class."""
    labels = splits.scenes.labels[splits.train]
    return class_weights(labels, len(splits.classes), config.recipe.class_weight)


def unguarded(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Replace Hydra's partials among a scheduler's arguments by plain ones: Hydra's check their target at each step."""
    if not isinstance(factory, partial):
        return factory
    keywords = {
        key: partial(value.func, *value.args, **value.keywords) if isinstance(value, partial) else value
        for key, value in factory.keywords.items()
    }
    return partial(factory.func, *factory.args, **keywords)


def _optim_arguments(config: RunConfig, network: nn.Module, runtime: Runtime) -> Mapping[str, Any]:
    """Return the configuration of the optimizer with `fused` resolved.

    In 16-bit precision Lightning refuses to clip the gradients of a fused optimizer. `fused=auto` is for SGD: on a CPU
    torch's fused one takes 0.6 times as long as the plain one for the many small tensors of a MobileNetV2, and 1.4
    times as long for the large ones of a ResNet.
    """
    arguments = as_plain(config.optim)
    if arguments.get("fused") == "auto":
        sizes = [parameter.numel() for parameter in network.parameters()]
        arguments["fused"] = runtime.device.type != "cpu" or sum(sizes) < LARGE_TENSOR * len(sizes)
    if config.trainer.others.get("gradient_clip_val") and runtime.precision != "32-true":
        arguments.pop("fused", None)
    return arguments


def build_trainer(
    config: RunConfig,
    runtime: Runtime,
    callbacks: Sequence[Callback],
    before_writing: Callable[[], None] = lambda: None,
) -> Trainer:
    """Build the Trainer of a resolved configuration, with further callbacks beside those that every run has.

    Args:
        config: The resolved configuration.
        runtime: Device and precision of the training.
        callbacks: Further callbacks.
        before_writing: Called before a callback writes a file of the record; raises if the claim on the folder is lost.

    Raises:
        UserError: The Trainer refuses its arguments.
    """
    own: list[Callback] = [FiniteLoss(), *callbacks]
    if config.model.weights is None:
        own.append(WarmedNorms())  # before the weight average, which includes the statistics
    if config.recipe.ema_decay is not None:
        own.append(WarmedEMA(config.recipe.ema_decay))
    if config.averages is not None:
        own.append(WindowAverages(config.averages, Path(config.folder or ""), runtime, before_writing))
    reloads = {"reload_dataloaders_every_n_epochs": 1} if config.batch_growth else {}  # epochs differ in length
    return make_trainer(
        config.trainer,
        precision=runtime.precision,
        max_epochs=config.epochs,
        logger=False,  # set by the run once they are built
        callbacks=own,
        plugins=[WholeCheckpointIO()],
        default_root_dir=config.folder,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **reloads,
    )


def check_devices(config: RunConfig, data: SceneDataModule, runtime: Runtime) -> None:
    """Check that the images can be divided among the devices.

    Raises:
        UserError: They cannot, or an option is for one device only, or does nothing on this kind of device.
    """
    batch_size, num_devices = data.batch_size, runtime.num_devices
    if batch_size < num_devices:
        raise UserError(
            f"data.batch_size={batch_size} is fewer images than the {num_devices} devices: raise it, or set "
            f"trainer.devices={batch_size} or lower"
        )
    if config.trainer.others.get("sync_batchnorm") and runtime.device.type == "cpu":
        raise UserError("trainer.sync_batchnorm=true needs GPUs, because torch cannot do it on a CPU: leave it out")
    num_images = min(len(data.splits.val), len(data.splits.train_eval))
    if num_devices > num_images:
        raise UserError(
            f"{num_images} validation images are fewer than the {num_devices} devices: "
            f"set trainer.devices={num_images} or lower, or raise data.val_fraction"
        )
    for option, is_set, instead in (
        ("compile=true", config.compile, "leave it out"),
        ("averages", config.averages is not None, "leave it out"),
        ("noise_scale", config.noise_scale > 0, "leave it out"),
        ("batch_growth", config.batch_growth is not None, "leave it out"),
        ("budget_minutes", config.budget_minutes is not None, "set epochs instead"),
    ):
        if is_set and num_devices > 1:
            raise UserError(f"{option} is for one device only: {instead}, or set trainer.devices=1")
    if config.data.device_resident is True and runtime.device.type == "cpu":
        raise UserError("data.device_resident=true has no effect on a CPU: leave it at auto")


def build_loggers(config: RunConfig) -> list[Logger]:
    """Build the experiment tracker beside the record, if one is chosen, and log the configuration to it.

    Raises:
        UserError: The tracker cannot be used.
    """
    target = config.logger.target
    if not target:
        return []
    try:
        logger: Logger = hydra.utils.instantiate(config.logger.others, _convert_="all")
        logger.log_hyperparams(flatten(as_plain(config)))
    except Exception as error:  # trackers raise their own kinds: a missing package, key or network
        name = target.rpartition(".")[2]
        reason = first_line(error.__cause__ or error)  # Hydra names the class, its cause says why
        extra = next((extra for extra in EXTRAS if extra in target.lower()), None)
        is_missing = isinstance(error.__cause__ or error, ImportError) and extra
        advice = f'run pip install "intel-scenes[{extra}]"' if is_missing else "correct its settings"
        raise UserError(f"{name} cannot be used: {reason}; {advice}, or set logger=none") from error
    return [logger]
