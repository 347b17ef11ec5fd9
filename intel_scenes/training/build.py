"""The parts of a run, made of its resolved configuration."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from intel_scenes import files
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import UserError, first_line
from intel_scenes.models.backbones import build, check_image_size, classifiers
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.models.weights import Weights
from intel_scenes.training import configuration, memory
from intel_scenes.training.averaging import WarmedEMA, WarmedNorms
from intel_scenes.training.checkpoints import FiniteLoss, WholeCheckpointIO
from intel_scenes.training.frozen_features import linear_head

LARGE = 2**15  # weights in a tensor, by the mean over all of a network


def network_of(
    plain: dict[str, Any], weights: Weights | None, data: SceneDataModule, num_devices: int = 1
) -> nn.Module:
    """The backbone with a head for the classes of the images.

    Raises:
        UserError: There is no such model, or not for images of this size or so few a step on each device.
    """
    name, recipe = plain["model"]["name"], plain["recipe"]
    network = build(name, len(data.classes), weights=weights, image_size=data.view.size)
    for size in {data.view.size, *data.train_sizes}:
        check_image_size(network, name, size, _normalized_together(plain, num_devices))
    norms = (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    if not recipe["trains_norms"] and not any(norms):
        raise UserError(f"recipe.trains_norms=false has no effect on {name}, which has no batch norms: leave it out")
    if recipe["head_first"] and weights and not linear_head(network):
        raise UserError(f"recipe.head_first=true has no effect on {name}, whose head is not linear: leave it out")
    return network


def _normalized_together(plain: dict[str, Any], num_devices: int) -> int:
    """How many images batch norms see at once in training; two, which are enough, where they do not train."""
    recipe, batch_size = plain["recipe"], plain["data"]["batch_size"]
    if not recipe["trains_norms"] or recipe["trained"] == "head":
        return 2
    return int(batch_size if plain["trainer"].get("sync_batchnorm") else batch_size // num_devices)


def precision_of(plain: dict[str, Any]) -> str:
    """Lightning's name of the precision."""
    return configuration.resolve_precision(plain["trainer"]["precision"], plain["trainer"]["accelerator"])


def classifier_of(plain: dict[str, Any], network: nn.Module, data: SceneDataModule) -> SceneClassifier:
    """The LightningModule of a network, or of its head alone.

    Raises:
        UserError: Optimizer and scheduler do not fit.
    """
    num_classes, recipe = len(data.classes), configuration.effective_recipe(plain)
    try:
        classifier = SceneClassifier(
            network,
            classifiers(network),
            hydra.utils.instantiate(_optim(plain, network), _convert_="all"),
            unguarded(hydra.utils.instantiate(plain["scheduler"]["factory"], _convert_="all")),
            interval=plain["scheduler"]["interval"],
            num_classes=num_classes,
            lr=configuration.effective_lr(plain),
            head_lr_scale=recipe["head_lr_scale"],
            first_lr_scale=recipe["first_lr_scale"],
            trains_norms=recipe["trains_norms"],
            label_smoothing=recipe["label_smoothing"],
            seed=plain["seed"],
        )
        classifier.configure_optimizers()  # an option that it refuses is refused before the run begins
    except (TypeError, ValueError, ArithmeticError, hydra.errors.HydraException) as error:
        raise UserError(f"optim and scheduler do not fit: {first_line(error)}") from error
    return classifier.to(memory_format=torch.channels_last)


def unguarded(factory: Callable[..., Any]) -> Callable[..., Any]:
    """A scheduler's factory with plain partials as arguments: Hydra's check their target anew at each step."""
    if not isinstance(factory, partial):
        return factory
    given = {
        key: partial(value.func, *value.args, **value.keywords) if isinstance(value, partial) else value
        for key, value in factory.keywords.items()
    }
    return partial(factory.func, *factory.args, **given)


def _optim(plain: dict[str, Any], network: nn.Module) -> dict[str, Any]:
    """The optimizer as asked for; in sixteen bits Lightning clips no gradients of one that is fused.

    `fused=auto` is for SGD: on a CPU torch's fused one takes 0.6 of the time of the plain one for the many small
    tensors of a MobileNetV2, and 1.4 times as long for the large ones of a ResNet.
    """
    optim = dict(plain["optim"])
    if optim.get("fused") == "auto":
        sizes = [parameter.numel() for parameter in network.parameters()]
        optim["fused"] = _accelerator(plain) != "cpu" or sum(sizes) < LARGE * len(sizes)
    if plain["trainer"].get("gradient_clip_val") and precision_of(plain) != "32-true":
        optim.pop("fused", None)
    return optim


def _accelerator(plain: dict[str, Any]) -> str:
    """As asked for, but for Apple's MPS, which Lightning would take by itself, and on which nothing was tried."""
    asked: str = plain["trainer"]["accelerator"]
    return "cpu" if asked == "auto" and not torch.cuda.is_available() else asked


def trainer_of(
    plain: dict[str, Any], folder: Path, data: SceneDataModule, own: Sequence[Callback], precision: str
) -> Trainer:
    """The Trainer, with callbacks of ours beside those that every run has, and without loggers.

    Raises:
        UserError: It cannot be made, or its devices do not fit the run.
    """
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    ours = ("precision", "enable_progress_bar")
    arguments = {key: value for key, value in plain["trainer"].items() if key not in ours}
    arguments["accelerator"] = asked = _accelerator(plain)
    if asked in ("gpu", "cuda") and not torch.accelerator.is_available():
        raise UserError(f"trainer.accelerator={asked}: no GPU is found; trainer=auto takes what there is")
    callbacks: list[Callback] = [FiniteLoss(), *own]
    if plain["model"]["weights"] is None:
        callbacks.append(WarmedNorms())  # before the average of the weights, which takes the statistics in
    if (decay := plain["recipe"]["ema_decay"]) is not None:
        callbacks.append(WarmedEMA(decay))
    try:
        trainer = Trainer(
            **arguments,
            precision=precision,  # type: ignore[arg-type]  # Lightning checks it
            max_epochs=plain["epochs"],
            logger=False,
            callbacks=callbacks,
            plugins=[WholeCheckpointIO(), *_cluster(arguments)],
            default_root_dir=folder,
            enable_model_summary=False,
            enable_progress_bar=False,  # TrainingProgress is ours
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except (TypeError, ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"trainer: {first_line(error)}") from error
    # Lightning numbers the process by the environment, though it may be alone: then it is the first.
    rank_zero_only.rank = trainer.global_rank  # type: ignore[attr-defined]
    _check_shares(plain, data, trainer.world_size)
    if plain["compile"] and trainer.world_size > 1:
        raise UserError("compile=true is for one device: leave it out")
    if plain["data"]["device_resident"] is True and trainer.strategy.root_device.type == "cpu":
        raise UserError("data.device_resident=true has no effect on a CPU: leave it at auto")
    memory.keep_freed()
    memory.reset_peak(trainer.strategy.root_device)
    return trainer


def _check_shares(plain: dict[str, Any], data: SceneDataModule, num_devices: int) -> None:
    if plain["data"]["batch_size"] % num_devices:
        raise UserError(
            f"data.batch_size={plain['data']['batch_size']} cannot be shared by {num_devices} devices alike"
        )
    num_images = min(len(data.val), len(data.train_eval))
    if num_devices > num_images:
        raise UserError(
            f"{num_images} validation images cannot be shared by {num_devices} devices: "
            f"set trainer.devices={num_images} or lower, or raise data.val_fraction"
        )


def _cluster(arguments: dict[str, Any]) -> list[ClusterEnvironment]:
    """What tells the processes of a run from each other, where Lightning's own choice would not do.

    A run on one device is alone, whatever tasks SLURM counts beside it: they have runs of their own. Several devices
    under SLURM go without Lightning's way to queue a job again: its signal belongs to who submitted the job.
    """
    if configuration.num_devices(arguments) == 1:
        return [LightningEnvironment()]
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def loggers_of(plain: dict[str, Any]) -> list[Logger]:
    """The tracker beside the record, where there is one; its own record begins here.

    Raises:
        UserError: It cannot be used.
    """
    if not plain["logger"]["_target_"]:
        return []
    try:
        logger: Logger = hydra.utils.instantiate(plain["logger"], _convert_="all")
        logger.log_hyperparams(files.flatten(plain))
    except Exception as error:  # of the tracker's own kinds, most of them for want of a package, a key or a network
        name = plain["logger"]["_target_"].rpartition(".")[2]
        reason = first_line(error.__cause__ or error)  # Hydra names the class, its cause says why
        raise UserError(f"{name} cannot be used: {reason}; see the extras in the README") from error
    return [logger]
