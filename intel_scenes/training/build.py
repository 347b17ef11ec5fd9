"""The parts of a run, each made of the sections of its configuration that it needs."""

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
    NO_AUGMENTATION,
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
from intel_scenes.errors import UserError, counted, first_line
from intel_scenes.files import flatten
from intel_scenes.known_keys import check_keys
from intel_scenes.models import libraries
from intel_scenes.models.backbones import check_image_size, classifiers
from intel_scenes.models.class_weights import class_weights
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.models.norms import batch_norms
from intel_scenes.models.weights import Weights
from intel_scenes.runtime import Runtime, is_on_cpu, make_trainer, resolve_precision
from intel_scenes.sections import as_plain
from intel_scenes.training.averaging import WarmedEMA, WarmedNorms
from intel_scenes.training.checkpoints import FiniteLoss, WholeCheckpointIO
from intel_scenes.training.frozen_features import linear_head

log = logging.getLogger(__name__)

LARGE = 2**15  # weights in a tensor, by the mean over all of a network
NUM_NAMED = 5  # of what is left out


def check_parts(config: RunConfig, typed: Collection[str]) -> None:
    """Checks a configuration before any image or file of weights is read.

    Args:
        config: As composed.
        typed: The keys that were typed.

    Raises:
        UserError: It holds something that no run could use.
    """
    check_keys(as_plain(config))  # also asks what is instantiated which arguments it takes
    check(config, typed)
    check_sizes(config, config.data.store_size or view_of(config.model, config.data).resize)
    weights = config.model.weights
    is_name = weights is not None and re.fullmatch(r"\w+", weights)  # a file may still come
    libraries.resolve_weights(config.model if is_name else replace(config.model, weights=None))
    libraries.check_importable(config.model)


def build_data(config: RunConfig, typed: Collection[str] = ()) -> SceneDataModule:
    """The images of a run, as its network sees them: read, decoded and split.

    Args:
        config: Of the run.
        typed: The keys that were typed.

    Raises:
        UserError: They cannot be had or read, or a key that was typed has no effect on them.
    """
    module = read_images(
        config.data, config.model, seed=config.seed, augmentation=config.augment, recipe=config.recipe, typed=typed
    )
    report_images(module)
    return module


def read_images(
    data: DataConfig,
    model: ModelConfig,
    *,
    seed: int,
    augmentation: AugmentConfig = NO_AUGMENTATION,
    recipe: RecipeConfig | None = None,
    cuts_val: bool = True,
    typed: Collection[str] = (),
) -> SceneDataModule:
    """Images as a network with its weights sees them: read, decoded and split.

    Args:
        data: Which images.
        model: The network.
        seed: Of their order and their augmentation.
        augmentation: What a training image goes through.
        recipe: How images are mixed, in which sizes they train, and what test-time augmentation they go through; by
            default they are as they are.
        cuts_val: Whether a validation split is cut from train, where none was there.
        typed: The keys that were typed.

    Raises:
        UserError: They cannot be had or read, or a key that was typed has no effect on them.
    """
    view = view_of(model, data)
    mixing, tta = (Mixing(recipe.mixup, recipe.cutmix), recipe.views) if recipe else (Mixing(0, 0), 1)
    module = SceneDataModule(
        source_of(data),
        ImagePipeline(view, augmentation, mixing, tta=tta, seed=seed),
        train_sizes=recipe.train_sizes(default=view.size) if recipe else (view.size,),
        batch_size=data.batch_size,
        seed=seed,
        val_fraction=data.val_fraction if cuts_val else None,
        split_seed=data.split_seed,
        test_fraction=data.test_fraction,
        store_size=data.store_size or view.resize,
        store_rule=data.store_rule,
        cache_dir=Path(data.cache_dir).expanduser(),
        on_unreadable=data.on_unreadable,
        exclude=read_excluded(data.exclude, *([""] if data.labels else [])),  # whose paths are as they are
        train_fraction=data.train_fraction,
        subset_seed=seed if data.subset_seed is None else data.subset_seed,
    )
    _check_cuts(module.layout, typed)
    module.prepare_data()
    module.setup()
    return module


def _check_cuts(layout: Layout, typed: Collection[str]) -> None:
    """Refuses the fraction of a cut that is not made."""
    cuts = {"data.val_fraction": layout.val, "data.test_fraction": None if layout.test_fraction else layout.test}
    for key, there in cuts.items():
        if there is not None and key in typed:
            raise UserError(f"{key} has no effect, because nothing is cut: {there.root} holds that split, leave it out")


def source_of(data: DataConfig) -> Source:
    """Where the images come from.

    Raises:
        UserError: No folder is given where one is needed.
    """
    root = Path(data.root).expanduser() if data.root else None
    if data.source == "synthetic":
        counts = (data.num_train or 0, data.num_test or 0, data.store_size or 0)  # which a configuration of theirs has
        return Drawn(*counts, data.drawing_seed or 0)
    if data.source == "folder":
        if root is None and data.labels is None:
            raise UserError(
                "data=folder needs data.root=FOLDER, which holds train/CLASS and test/CLASS or class folders alone; or "
                "data.labels=FILE.csv"
            )
        return Folder(root, _labels_file(data.labels, root) if data.labels else None)
    return Kaggle(root)


def _labels_file(name: str, root: Path | None) -> Path:
    """The file of that name in the current folder, else in the folder of the images."""
    file = Path(name).expanduser()
    return root / file if root is not None and not file.exists() and (root / file).exists() else file


def view_of(model: ModelConfig, data: DataConfig) -> View:
    """How a network with its weights sees the stored images.

    Raises:
        UserError: There is no such network.
    """
    seen = libraries.preprocessing_of(model)
    size = data.image_size or seen.crop_size
    fraction = data.crop_fraction or seen.crop_size / seen.resize_size
    return View(size, round(size / fraction), seen.interpolation, seen.mean, seen.std)


def read_excluded(path: str | None, prefix: str = "seg_train/") -> frozenset[str]:
    """The images of train that a file lists by path, one on a line; lines that begin with # say nothing.

    Args:
        path: Of the file; None lists none.
        prefix: That a path may begin with, and that is no part of it.

    Raises:
        UserError: The file cannot be read.
    """
    if path is None:
        return frozenset()
    try:
        lines = [line.strip() for line in Path(path).expanduser().read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"data.exclude={path} cannot be read ({getattr(error, 'strerror', None) or error}): give a text file"
        ) from error
    return frozenset(line.removeprefix(prefix) for line in lines if line and not line.startswith("#"))


def report_images(module: SceneDataModule) -> None:
    """Says what was found, how photographs are stored, and which files are not what one may think."""
    log.info("found: %s", module.layout.summary(module.val_fraction))
    if module.store_rule == "whole":
        num_bytes = module.images.values.nbytes + module.test_images.values.nbytes
        *others, last = (f"{len(one.labels):,} {split}" for split, one in module.images_by_split.items())
        log.info(
            "%s and %s images are stored whole, up to 2:1, with a shorter side of %d px: %s in %s",
            ", ".join(others),
            last,
            module.store_size,
            f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB",
            module.cache_dir,
        )
    splits, found = module.splits, module.layout.by_split.values()
    if others := [f"{one.root}/{name}" for one in found for name in one.left_out]:
        few = ", ".join(others[:NUM_NAMED]) + (", ..." if len(others) > NUM_NAMED else "")
        few = few.encode(errors="backslashreplace").decode()  # any name may be among them
        what = counted(len(others), "entry", "entries")
        log.warning("left out %s of the class folders that are no image files: %s", what, few)
    if lost := [path for reasons in module.unreadable.values() for path in reasons]:
        log.warning("%s could not be decoded; skipped: %s", counted(len(lost), "image"), ", ".join(lost))
    in_train = "also in train or val" if splits.has_own_val else "also in train"
    _report_twins(splits.val_duplicates, "validation image", "also in train")
    _report_twins(splits.test_duplicates, "test image", in_train)


def _report_twins(twins: Sequence[str], what: str, where: str) -> None:
    if twins:
        are = "is" if len(twins) == 1 else "are"
        log.warning("%s %s %s: %s", counted(len(twins), what), are, where, ", ".join(twins))


def build_network(config: RunConfig, weights: Weights | None, data: SceneDataModule, num_devices: int = 1) -> nn.Module:
    """The backbone with a head for the classes of the images.

    Raises:
        UserError: There is no such model, or not for images of this size or so few a step on each device.
    """
    name, recipe = config.model.name, config.recipe
    network = libraries.build(config.model, len(data.splits.classes), weights=weights, image_size=data.view.size)
    for size in {data.view.size, *data.train_sizes}:
        check_image_size(network, name, size, _normalized_together(config, num_devices))
    if not recipe.trains_norms and not any(batch_norms(network)):
        raise UserError(f"recipe.trains_norms=false has no effect on {name}, which has no batch norms: leave it out")
    if recipe.head_first and weights and not linear_head(network):
        raise UserError(f"recipe.head_first=true has no effect on {name}, whose head is not linear: leave it out")
    return network


def _normalized_together(config: RunConfig, num_devices: int) -> int:
    """How many images batch norms see at once in training; two, which are enough, where they do not train."""
    if not config.recipe.trains_norms or config.recipe.trained == "head":
        return 2
    batch_size = config.data.batch_size
    return batch_size if config.trainer.others.get("sync_batchnorm") else batch_size // num_devices


def build_classifier(config: RunConfig, network: nn.Module, splits: Splits) -> SceneClassifier:
    """The LightningModule of a network, or of its head alone, for the classes of some images.

    Raises:
        UserError: Optimizer and scheduler do not fit.
    """
    recipe, scheduler = config.effective_recipe, config.scheduler
    try:
        classifier = SceneClassifier(
            network,
            classifiers(network),
            hydra.utils.instantiate(_optim_arguments(config, network), _convert_="all"),
            unguarded(hydra.utils.instantiate(scheduler.factory, _convert_="all")),
            interval=scheduler.interval,
            num_classes=len(splits.classes),
            lr=config.lr,
            head_lr_scale=recipe.head_lr_scale,
            first_lr_scale=recipe.first_lr_scale,
            trains_norms=recipe.trains_norms,
            label_smoothing=recipe.label_smoothing,
            class_weights=weights_of_classes(config, splits),
            seed=config.seed,
        )
        classifier.configure_optimizers()  # an option that it refuses is refused before the run begins
    except (TypeError, ValueError, ArithmeticError, hydra.errors.HydraException) as error:
        raise UserError(f"optim and scheduler do not fit: {first_line(error)}") from error
    return classifier.to(memory_format=torch.channels_last)


def weights_of_classes(config: RunConfig, splits: Splits) -> Tensor | None:
    """Of the loss, by the training images; None where the recipe weighs nothing."""
    labels = splits.scenes.labels[splits.train]
    return class_weights(labels, len(splits.classes), config.recipe.class_weight)


def unguarded(factory: Callable[..., Any]) -> Callable[..., Any]:
    """A scheduler's factory with plain partials as arguments: Hydra's check their target anew at each step."""
    if not isinstance(factory, partial):
        return factory
    given = {
        key: partial(value.func, *value.args, **value.keywords) if isinstance(value, partial) else value
        for key, value in factory.keywords.items()
    }
    return partial(factory.func, *factory.args, **given)


def _optim_arguments(config: RunConfig, network: nn.Module) -> Mapping[str, Any]:
    """The optimizer as asked for; in sixteen bits Lightning clips no gradients of one that is fused.

    `fused=auto` is for SGD: on a CPU torch's fused one takes 0.6 of the time of the plain one for the many small
    tensors of a MobileNetV2, and 1.4 times as long for the large ones of a ResNet.
    """
    arguments, trainer = as_plain(config.optim), config.trainer
    if arguments.get("fused") == "auto":
        sizes = [parameter.numel() for parameter in network.parameters()]
        arguments["fused"] = not is_on_cpu(trainer) or sum(sizes) < LARGE * len(sizes)
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    if trainer.others.get("gradient_clip_val") and precision != "32-true":
        arguments.pop("fused", None)
    return arguments


def build_trainer(config: RunConfig, runtime: Runtime, callbacks: Sequence[Callback]) -> Trainer:
    """The Trainer of a resolved configuration, with further callbacks beside those that every run has.

    Raises:
        UserError: It cannot be made.
    """
    own: list[Callback] = [FiniteLoss(), *callbacks]
    if config.model.weights is None:
        own.append(WarmedNorms())  # before the average of the weights, which takes the statistics in
    if config.recipe.ema_decay is not None:
        own.append(WarmedEMA(config.recipe.ema_decay))
    return make_trainer(
        config.trainer,
        precision=runtime.precision,
        max_epochs=config.epochs,
        logger=False,  # the run puts them in place once they are there
        callbacks=own,
        plugins=[WholeCheckpointIO()],
        default_root_dir=config.folder,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def check_devices(config: RunConfig, data: SceneDataModule, runtime: Runtime) -> None:
    """Checks that the devices can share what there is to do.

    Raises:
        UserError: They cannot, or an option is for one device alone.
    """
    batch_size, num_devices = data.batch_size, runtime.num_devices
    if batch_size % num_devices:
        raise UserError(f"data.batch_size={batch_size} cannot be shared by {num_devices} devices alike")
    num_images = min(len(data.splits.val), len(data.splits.train_eval))
    if num_devices > num_images:
        raise UserError(
            f"{num_images} validation images cannot be shared by {num_devices} devices: "
            f"set trainer.devices={num_images} or lower, or raise data.val_fraction"
        )
    if config.compile and num_devices > 1:
        raise UserError("compile=true is for one device: leave it out")
    if config.budget_minutes is not None and num_devices > 1:
        raise UserError("budget_minutes is for one device: set epochs instead")
    if config.data.device_resident is True and runtime.device.type == "cpu":
        raise UserError("data.device_resident=true has no effect on a CPU: leave it at auto")


def build_loggers(config: RunConfig) -> list[Logger]:
    """The tracker beside the record, where there is one; its own record begins here.

    Raises:
        UserError: It cannot be used.
    """
    target = config.logger.target
    if not target:
        return []
    try:
        logger: Logger = hydra.utils.instantiate(config.logger.others, _convert_="all")
        logger.log_hyperparams(flatten(as_plain(config)))
    except Exception as error:  # of the tracker's own kinds, most of them for want of a package, a key or a network
        name = target.rpartition(".")[2]
        reason = first_line(error.__cause__ or error)  # Hydra names the class, its cause says why
        raise UserError(f"{name} cannot be used: {reason}; see the extras in the README") from error
    return [logger]
