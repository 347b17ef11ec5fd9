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
from intel_scenes.data.augment import Augmentation
from intel_scenes.data.batches import View
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.sources import drawn_folder, kaggle_folder
from intel_scenes.errors import UserError, first_line
from intel_scenes.models.backbones import Weights, build, check_image_size, heads, random_preprocessing, resolve_weights
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.runs import configuration, memory, outcome
from intel_scenes.runs.checkpoints import EpochRecorder, FiniteLoss, WholeCheckpointIO
from intel_scenes.runs.compiling import compile_network
from intel_scenes.runs.evaluation import evaluate
from intel_scenes.runs.features import Head, frozen, make_whole
from intel_scenes.runs.forecast import forecast
from intel_scenes.runs.identity import circumstances, identity

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
    threads, precision = configuration.resolve_threads(plain), configuration.resolve_precision(plain)
    weights_digest = weights and weights.digest
    facts = {"weights": weights_digest, "data": data.fingerprint, "precision": precision, "threads": threads}
    digests = configuration.digests(plain, facts)
    with outcome.claimed(folder) as lease:
        if (found := outcome.completed(folder, digests["config_digest"], plain)) is not None:
            log.info("%s is complete", folder)
            return found
        torch.manual_seed(plain["seed"])
        network = _network(plain, weights, data)
        head = _head(plain, network)
        classifier = _classifier(plain, head or network, data)
        recorder = EpochRecorder(folder, before_writing=lambda: outcome.check_held(folder, lease))
        trainer = _trainer(plain, folder, [recorder, *callbacks], precision)
        known = {
            **identity(plain, choices, weights, data, network),
            **digests,
            "composition_digest": composition_digest,
            **circumstances(trainer.strategy.root_device),
            "precision": precision,
            "threads": threads,
        }
        with outcome.recorded(folder, lease, plain, overrides, known) as results:
            last, device = folder / record.LAST, trainer.strategy.root_device
            if head is not None:
                data = _features(plain, facts, network, head, data, device)
            if _is_resident(plain, data, device):
                data = data.resident(device)
            if plain["compile"]:
                results["compile_seconds"] = compile_network(classifier, data, device=device, precision=precision)
            trainer.fit(classifier, data, ckpt_path=last if last.exists() else None, weights_only=True)
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
    precision = configuration.resolve_precision(plain)
    network = _network(plain, weights, data)
    classifier = _classifier(plain, _head(plain, network) or network, data)
    device = _trainer(plain | {"logger": {"_target_": None}}, Path(), [], precision).strategy.root_device
    return forecast(classifier, network, data, epochs=plain["epochs"], device=device, precision=precision)


def check(cfg: DictConfig) -> None:
    """Checks a configuration without touching images or weights.

    Raises:
        UserError: It holds something that no run could use.
    """
    plain = _plain(cfg, Path(), num_steps=0)
    configuration.check(plain)
    _augmentation(plain)
    weights = plain["model"]["weights"]
    is_name = weights is not None and re.fullmatch(r"\w+", weights)  # a file may still come
    resolve_weights(plain["model"]["name"], weights if is_name else None)


def data_fingerprint(cfg: DictConfig) -> str:
    """The `data_fingerprint` that a run of a configuration would have now."""
    return data_module_of(cfg).fingerprint


def data_module_of(cfg: DictConfig) -> SceneDataModule:
    """The images of a configuration, as a network with random weights sees them."""
    return _data_module(_plain(cfg, Path(), num_steps=0), None)


def _composed(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], Weights | None, SceneDataModule]:
    """The checked configuration with the number of steps that its images make, its weights, and its images."""
    plain = _plain(cfg, folder, num_steps=0)
    configuration.check(plain)
    torch.set_num_threads(configuration.resolve_threads(plain))
    weights = resolve_weights(plain["model"]["name"], plain["model"]["weights"])
    data = _data_module(plain, weights)
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


def _data_module(plain: dict[str, Any], weights: Weights | None) -> SceneDataModule:
    data = plain["data"]
    cache_dir = Path(data["cache_dir"]).expanduser()
    module = SceneDataModule(
        _root(data, cache_dir),
        view=_view(plain, weights),
        augmentation=_augmentation(plain),
        batch_size=data["batch_size"],
        seed=plain["seed"],
        val_fraction=data["val_fraction"],
        split_seed=data["split_seed"],
        store_size=data["store_size"],
        cache_dir=cache_dir,
        on_unreadable=data["on_unreadable"],
    )
    if lost := module.passed_over:
        log.warning("%d images cannot be decoded and are passed over: %s", len(lost), ", ".join(lost))
    if module.test_duplicates:
        log.warning(
            "%d test images are also in train: %s", len(module.test_duplicates), ", ".join(module.test_duplicates)
        )
    return module


def _augmentation(plain: dict[str, Any]) -> Augmentation:
    try:
        return Augmentation(**plain["augment"])
    except (TypeError, ValueError) as error:
        raise UserError(f"augment: {error}") from error


def _root(data: dict[str, Any], cache_dir: Path) -> Path:
    root = Path(data["root"]).expanduser() if data["root"] else None
    if data["source"] == "synthetic":
        return drawn_folder(
            cache_dir,
            num_train=data["num_train"],
            num_test=data["num_test"],
            size=data["store_size"],
            seed=data["drawing_seed"],
        )
    if data["source"] == "folder":
        if root is None:
            raise UserError("data=folder needs data.root=FOLDER, which holds seg_train/CLASS and seg_test/CLASS")
        return root
    return kaggle_folder(root)


def _view(plain: dict[str, Any], weights: Weights | None) -> View:
    seen = weights.preprocessing if weights else random_preprocessing(plain["model"]["name"])
    size = plain["data"]["image_size"] or seen.crop_size
    fraction = plain["data"]["crop_fraction"] or seen.crop_size / seen.resize_size
    return View(size, round(size / fraction), seen.interpolation, seen.mean, seen.std)


def _network(plain: dict[str, Any], weights: Weights | None, data: SceneDataModule) -> nn.Module:
    name, size = plain["model"]["name"], data.view.size
    network = build(name, len(data.classes), weights=weights, image_size=size)
    check_image_size(network, name, size)
    return network


def _head(plain: dict[str, Any], network: nn.Module) -> Head | None:
    """The head of a network, where it is trained alone."""
    return Head(network, plain["model"]["name"]) if plain["recipe"]["trained"] == "head" else None


def _features(
    plain: dict[str, Any],
    facts: Mapping[str, Any],
    network: nn.Module,
    head: Head,
    data: SceneDataModule,
    device: torch.device,
) -> SceneDataModule:
    origin = {
        "model": plain["model"]["name"],
        "weights": facts["weights"] or f"random, seed {plain['seed']}",
        "store_size": plain["data"]["store_size"],
    }
    cache_dir = Path(plain["data"]["cache_dir"]).expanduser()
    precision = facts["precision"]
    return frozen(network, head, data, cache_dir=cache_dir, facts=origin, device=device, precision=precision)


def _is_resident(plain: dict[str, Any], data: SceneDataModule, device: torch.device) -> bool:
    asked = plain["data"]["device_resident"]
    return bool(memory.has_room(device, data.images.values.nbytes) if asked == "auto" else asked)


def _classifier(plain: dict[str, Any], network: nn.Module, data: SceneDataModule) -> SceneClassifier:
    num_classes = len(data.classes)
    try:
        classifier = SceneClassifier(
            network,
            heads(network),
            hydra.utils.instantiate(plain["optim"], _convert_="all"),
            hydra.utils.instantiate(plain["scheduler"]["factory"], _convert_="all"),
            interval=plain["scheduler"]["interval"],
            num_classes=num_classes,
            lr=configuration.effective_lr(plain),
            head_lr_scale=plain["recipe"]["head_lr_scale"],
            label_smoothing=plain["recipe"]["label_smoothing"],
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
