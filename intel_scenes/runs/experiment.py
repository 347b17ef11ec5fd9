"""One run, from its configuration to its record."""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from intel_scenes import record
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import UserError, first_line
from intel_scenes.models.backbones import Weights, build, check_image_size, heads, resolve_weights
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.runs import configuration, memory, outcome
from intel_scenes.runs.checkpoints import EpochRecorder, FiniteLoss, WholeCheckpointIO
from intel_scenes.runs.compiling import compile_network
from intel_scenes.runs.evaluation import evaluate
from intel_scenes.runs.features import Head, fit_head, frozen, head_alone, make_whole
from intel_scenes.runs.forecast import forecast
from intel_scenes.runs.identity import circumstances, identity
from intel_scenes.runs.images import augmentation, data_module

log = logging.getLogger(__name__)


def run(
    cfg: DictConfig,
    folder: Path,
    *,
    choices: Mapping[str, str],
    overrides: Sequence[str],
    composition_digest: str,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Trains one configuration, evaluates its best epoch, and leaves the record in `folder`.

    A run that is complete is left as it is; one that was cut off goes on from its last epoch.

    Args:
        cfg: The composed configuration, all but `folder` and `num_steps`.
        folder: The run folder.
        choices: The file chosen in each group.
        overrides: What was typed.
        composition_digest: Of the tree of configuration files and the overrides.
        callbacks: Further ones of the Trainer, that only look on.

    Returns:
        What `summary.json` holds; nothing on the processes beside the first of a distributed run.

    Raises:
        UserError: Something that the user can mend. Where training had begun, the record says `failed`.
    """
    plain, weights, data = _composed(cfg, folder)
    threads, precision = configuration.resolve_threads(plain), _precision(plain)
    facts: dict[str, Any] = {"weights": weights and weights.digest, "data": data.fingerprint}
    facts |= {"precision": precision, "threads": threads}
    digests = configuration.digests(plain, facts)
    with outcome.claimed(folder) as lease:
        if (found := outcome.completed(folder, digests["config_digest"], plain)) is not None:
            log.info("%s is complete", folder)
            return found
        torch.manual_seed(plain["seed"])
        network = _network(plain, weights, data)
        head = head_alone(network, plain)
        classifier = _classifier(plain, head or network, data)
        recorder = EpochRecorder(folder, before_writing=lambda: outcome.check_held(folder, lease))
        trainer = _trainer(plain, folder, [recorder, *callbacks], precision)
        last, device = folder / record.LAST, trainer.strategy.root_device
        is_new = not last.exists()
        known = identity(plain, choices, weights, data, network) | digests | circumstances(device)
        known |= {"composition_digest": composition_digest, "precision": precision, "threads": threads}
        with outcome.recorded(folder, lease, plain, overrides, known) as results:
            data, costs = _to_train_on(plain, classifier, network, data, weights, device, precision, is_new=is_new)
            results |= costs
            trainer.fit(classifier, data, ckpt_path=None if is_new else last, weights_only=True)
            if trainer.is_global_zero:
                results |= evaluate(folder, classifier.network, data, recorder, device=device, precision=precision)
                if head is not None:
                    make_whole(folder / record.BEST, network)
        if not trainer.is_global_zero:
            return {}
        if not plain["keep_last"]:
            last.unlink(missing_ok=True)
        return record.read_summary(folder) or {}


def dry_run(cfg: DictConfig) -> list[str]:
    """What a run will cost, a sentence for each part; nothing is written.

    Raises:
        UserError: Something that the user can mend.
    """
    plain, weights, data = _composed(cfg, Path())
    precision = _precision(plain)
    network = _network(plain, weights, data)
    classifier = _classifier(plain, head_alone(network, plain) or network, data)
    device = _trainer(plain | {"logger": {"_target_": None}}, Path(), [], precision).strategy.root_device
    return forecast(classifier, network, data, epochs=plain["epochs"], device=device, precision=precision)


def check(cfg: DictConfig) -> None:
    """Checks a configuration without touching images or weights.

    Raises:
        UserError: It holds something that no run could use.
    """
    plain = _plain(cfg, Path(), num_steps=0)
    configuration.check(plain)
    augmentation(plain)
    weights = plain["model"]["weights"]
    is_name = weights is not None and re.fullmatch(r"\w+", weights)  # a file may still come
    resolve_weights(plain["model"]["name"], weights if is_name else None)


def data_fingerprint(cfg: DictConfig) -> str:
    """The `data_fingerprint` that a run of a configuration would have now."""
    return data_module_of(cfg).fingerprint


def data_module_of(cfg: DictConfig) -> SceneDataModule:
    """The images of a configuration, as a network with random weights sees them."""
    return data_module(_plain(cfg, Path(), num_steps=0), None)


def _composed(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], Weights | None, SceneDataModule]:
    """The checked configuration with the number of steps that its images make, its weights, and its images."""
    plain = _plain(cfg, folder, num_steps=0)
    configuration.check(plain)
    torch.set_num_threads(configuration.resolve_threads(plain))
    weights = resolve_weights(plain["model"]["name"], plain["model"]["weights"])
    data = data_module(plain, weights)
    return _plain(cfg, folder, configuration.num_steps(plain, len(data.train) // data.batch_size)), weights, data


def _plain(cfg: DictConfig, folder: Path, num_steps: int) -> dict[str, Any]:
    for key in ("folder", "num_steps"):
        if not OmegaConf.is_missing(cfg, key):
            raise UserError(
                f"{key}={cfg[key]} is filled in by the run itself: leave it out (hydra.run.dir sets a folder)"
            )
    if cfg.scheduler.interval != "step" and "${num_steps}" in OmegaConf.to_yaml(cfg.scheduler):
        raise UserError(f"scheduler.interval={cfg.scheduler.interval} does not fit: this schedule counts steps")
    filled = cfg.copy()
    filled.folder, filled.num_steps = str(folder), num_steps
    plain: dict[str, Any] = OmegaConf.to_container(filled, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return plain


def _network(plain: dict[str, Any], weights: Weights | None, data: SceneDataModule) -> nn.Module:
    name, size = plain["model"]["name"], data.view.size
    network = build(name, len(data.classes), weights=weights, image_size=size)
    check_image_size(network, name, size)
    return network


def _precision(plain: dict[str, Any]) -> str:
    return configuration.resolve_precision(plain["trainer"]["precision"], plain["trainer"]["accelerator"])


def _to_train_on(
    plain: dict[str, Any],
    classifier: SceneClassifier,
    network: nn.Module,
    data: SceneDataModule,
    weights: Weights | None,
    device: torch.device,
    precision: str,
    *,
    is_new: bool,
) -> tuple[SceneDataModule, dict[str, float | None]]:
    """Images or features, where they shall lie, for a network that is compiled where asked; and the seconds it took."""
    costs: dict[str, float | None] = {}
    alone = classifier.network if isinstance(classifier.network, Head) else None
    head_first = plain["recipe"]["head_first"] and weights is not None and is_new
    if alone or head_first:
        head = alone or Head(network, plain["model"]["name"])
        digest = weights.digest if weights else None
        features, costs["features_seconds"] = frozen(
            network, head, data, plain, weights=digest, device=device, precision=precision
        )
        if alone:
            data = features
        else:
            fit_head(head.layer, features.images, features.train, plain["recipe"]["label_smoothing"])
    if memory.is_resident(plain["data"]["device_resident"], device, data.images.values.nbytes):
        data = data.resident(device)
    if plain["compile"]:
        costs["compile_seconds"] = compile_network(classifier, data, device=device, precision=precision)
    return data, costs


def _classifier(plain: dict[str, Any], network: nn.Module, data: SceneDataModule) -> SceneClassifier:
    num_classes, recipe = len(data.classes), plain["recipe"]
    try:
        classifier = SceneClassifier(
            network,
            heads(network),
            hydra.utils.instantiate(plain["optim"], _convert_="all"),
            hydra.utils.instantiate(plain["scheduler"]["factory"], _convert_="all"),
            interval=plain["scheduler"]["interval"],
            num_classes=num_classes,
            lr=configuration.effective_lr(plain),
            head_lr_scale=recipe["head_lr_scale"],
            first_lr_scale=recipe["first_lr_scale"] if plain["model"]["weights"] else 1.0,
            trains_norms=recipe["trains_norms"],
            label_smoothing=recipe["label_smoothing"],
            seed=plain["seed"],
        )
        classifier.configure_optimizers()  # an option that it refuses is refused before the run begins
    except (TypeError, ValueError, ArithmeticError, hydra.errors.HydraException) as error:
        raise UserError(f"optim and scheduler do not fit: {first_line(error)}") from error
    return classifier.to(memory_format=torch.channels_last)


def _trainer(plain: dict[str, Any], folder: Path, own: Sequence[Callback], precision: str) -> Trainer:
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    arguments = {key: value for key, value in plain["trainer"].items() if key != "precision"}
    callbacks: list[Callback] = [FiniteLoss(), *own]
    if (decay := plain["recipe"]["ema_decay"]) is not None:
        callbacks.append(EMAWeightAveraging(decay=decay))
    if arguments["enable_progress_bar"]:
        callbacks.append(TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 50))
    try:
        trainer = Trainer(
            **arguments,
            precision=precision,  # type: ignore[arg-type]  # Lightning checks it
            max_epochs=plain["epochs"],
            logger=_logger(plain),
            callbacks=callbacks,
            plugins=[WholeCheckpointIO(), *_cluster()],
            default_root_dir=folder,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(f"trainer: {first_line(error)}") from error
    if plain["data"]["batch_size"] % trainer.world_size:
        raise UserError(
            f"data.batch_size={plain['data']['batch_size']} cannot be shared by {trainer.world_size} devices alike"
        )
    if plain["compile"] and trainer.world_size > 1:
        raise UserError("compile=true is for one device: leave it out")
    if plain["data"]["device_resident"] is True and trainer.strategy.root_device.type == "cpu":
        raise UserError("data.device_resident=true has no effect on a CPU: leave it at auto")
    memory.reset_peak(trainer.strategy.root_device)
    return trainer


def _cluster() -> list[SLURMEnvironment]:
    """Under SLURM, without Lightning's own way to queue a job again: its signal belongs to who submitted the job."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _logger(plain: dict[str, Any]) -> Logger | bool:
    if not plain["logger"]["_target_"]:
        return False
    try:
        logger: Logger = hydra.utils.instantiate(plain["logger"], _convert_="all")
        logger.log_hyperparams(record.flatten(plain))
    except Exception as error:  # of the tracker's own kinds, most of them for want of a package, a key or a network
        name = plain["logger"]["_target_"].rpartition(".")[2]
        reason = first_line(error.__cause__ or error)  # Hydra names the class, its cause says why
        raise UserError(f"{name} cannot be used: {reason}; see the extras in the README") from error
    return logger
