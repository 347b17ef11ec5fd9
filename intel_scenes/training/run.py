"""One run, from its configuration to its record."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf
from torch import nn

from intel_scenes import record
from intel_scenes.data.batches import VIEWS
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import UserError
from intel_scenes.keys import FILLED_IN
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.models.weights import Weights, resolve_weights
from intel_scenes.training import claim as outcome
from intel_scenes.training import configuration, memory
from intel_scenes.training import epoch_budget as budget
from intel_scenes.training.build import classifier_of, loggers_of, network_of, precision_of, trainer_of
from intel_scenes.training.checkpoints import EpochRecorder, is_whole
from intel_scenes.training.compiling import compile_network
from intel_scenes.training.console import TrainingProgress, beginning
from intel_scenes.training.cost_forecast import NUM_STEPS, Costs, fitted_epochs, forecast, measure
from intel_scenes.training.evaluation import evaluate
from intel_scenes.training.frozen_features import Head, begins_with_head, fit_head, frozen, head_alone, make_whole
from intel_scenes.training.identity import circumstances, identity
from intel_scenes.training.images import augmentation, data_module, given_sizes, train_sizes

log = logging.getLogger(__name__)

BUDGET_STEPS = 8  # measured at each size, where the number of epochs depends on them


def run(
    cfg: DictConfig,
    folder: Path,
    *,
    choices: Mapping[str, str | None],
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
    _refuse_idle(cfg, overrides)
    plain, weights, data = _composed(cfg, folder)
    threads, precision = configuration.resolve_threads(plain), precision_of(plain)
    facts = _facts(plain, weights, data)
    digests = configuration.digests(plain, facts)
    if (found := outcome.completed(folder, digests["config_digest"], plain)) is not None:
        return found
    progress = TrainingProgress(has_bar=plain["trainer"]["enable_progress_bar"])
    recorder = EpochRecorder(folder, progress)
    trainer = trainer_of(plain, folder, data, [recorder, progress, *callbacks], precision)
    with outcome.claimed(folder, is_first=trainer.is_global_zero) as lease:
        if (found := outcome.completed(folder, digests["config_digest"], plain)) is not None:  # by now
            return found
        outcome.make_room(folder, digests["config_digest"], plain, holds=lease is not None)
        torch.manual_seed(plain["seed"])
        network = network_of(plain, weights, data, trainer.world_size)
        head = head_alone(network, plain)
        classifier = classifier_of(plain, head or network, data)
        recorder.before_writing = lambda: outcome.check_held(folder, lease)
        trainer.loggers = loggers_of(plain)
        last, device = folder / record.LAST, trainer.strategy.root_device
        known = identity(plain, choices, weights, data, network) | digests | circumstances(device)
        known |= {"composition_digest": composition_digest, "precision": precision, "threads": threads}
        known |= budget.of_record(plain, facts)
        if trainer.is_global_zero:
            num_batches = configuration.num_batches(plain, len(data.train) // data.batch_size)
            for line in beginning(known, data, steps_per_epoch=num_batches):
                log.info(line)
        is_new = _is_new(folder, holds=lease is not None)
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


def dry_run(cfg: DictConfig, overrides: Sequence[str] = ()) -> list[str]:
    """What a run will cost, a sentence for each part; nothing is written.

    Args:
        cfg: As `run` takes it.
        overrides: What was typed.

    Raises:
        UserError: Something that the user can mend.
    """
    _refuse_idle(cfg, overrides)
    plain, weights, data = _composed(cfg, None)
    measured = _measured(plain, weights, data, num_steps=NUM_STEPS)
    return forecast(
        measured.costs,
        measured.classifier,
        measured.network,
        data,
        num_views=VIEWS[plain["recipe"]["views"]],
        device=measured.trainer.strategy.root_device,
        precision=measured.precision,
    )


def check(cfg: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Checks a configuration without touching images or weights.

    Args:
        cfg: As `run` takes it.
        overrides: What was typed.

    Raises:
        UserError: It holds something that no run could use.
    """
    _refuse_idle(cfg, overrides)
    plain = _plain(cfg, Path(), num_steps=0)
    configuration.check(plain)
    augmentation(plain)
    weights = plain["model"]["weights"]
    is_name = weights is not None and re.fullmatch(r"\w+", weights)  # a file may still come
    resolve_weights(plain["model"]["name"], weights if is_name else None)


def _refuse_idle(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """What does nothing in this combination, and is no mistake where a recipe or a study sets it.

    Of a budget that is none, or that the recipe cannot have, `configuration.check` tells.
    """
    typed = record.keys_of(overrides)
    is_budget = isinstance(cfg.budget_minutes, int | float) and cfg.budget_minutes > 0 and cfg.recipe.trained == "all"
    if is_budget and "epochs" in typed:
        raise UserError("epochs has no effect with budget_minutes, which fits them: leave one out")
    for key, neutral in configuration.WITHOUT_WEIGHTS.items():
        if cfg.model.weights is None and f"recipe.{key}" in typed and cfg.recipe[key] != neutral:
            raise UserError(f"recipe.{key} has no effect on random weights: leave it out, or set model.weights")


def data_fingerprint(cfg: DictConfig) -> str:
    """The `data_fingerprint` that a run of a configuration would have now."""
    return data_module_of(cfg).fingerprint


def data_module_of(cfg: DictConfig) -> SceneDataModule:
    """The images of a configuration, whether or not its weights are there."""
    return data_module(_plain(cfg, Path(), num_steps=0))


def _composed(cfg: DictConfig, folder: Path | None) -> tuple[dict[str, Any], Weights | None, SceneDataModule]:
    """The checked configuration with the number of steps that its images make, its weights, and its images."""
    there = folder or Path()
    plain = _plain(cfg, there, num_steps=0)
    configuration.check(plain)
    torch.set_num_threads(configuration.resolve_threads(plain))
    weights = resolve_weights(plain["model"]["name"], plain["model"]["weights"])
    data = data_module(plain)
    num_batches = len(data.train) // data.batch_size
    plain = _plain(cfg, there, configuration.num_steps(plain, num_batches))
    if plain["budget_minutes"] is None:
        return plain, weights, data
    num_sizes = len(given_sizes(plain, data.view.size))
    data.train_sizes = train_sizes(plain, data.view.size, num_sizes)  # all of them are measured
    cfg = cfg.copy()
    cfg.epochs = budget.epochs(
        plain, _facts(plain, weights, data), folder, lambda: _fitted_epochs(plain, weights, data)
    )
    if cfg.epochs < num_sizes:
        raise UserError(
            f"budget_minutes={cfg.budget_minutes} is enough for epochs={cfg.epochs} only, fewer than the {num_sizes} "
            "sizes of recipe.train_size: give it more, or fewer sizes"
        )
    plain = _plain(cfg, there, configuration.num_steps(plain | {"epochs": cfg.epochs}, num_batches))
    configuration.warn_of_late_steps(plain)
    data.train_sizes = train_sizes(plain, data.view.size, cfg.epochs)
    return plain, weights, data


def _facts(plain: dict[str, Any], weights: Weights | None, data: SceneDataModule) -> dict[str, Any]:
    """What a configuration names or leaves open, as it came out."""
    found: dict[str, Any] = {"weights": weights and weights.digest, "data": data.fingerprint}
    if data.store_rule == "whole":
        found["stored"] = [data.store_size, data.view.interpolation]
    return found | {"precision": precision_of(plain), "threads": configuration.resolve_threads(plain)}


def _fitted_epochs(plain: dict[str, Any], weights: Weights | None, data: SceneDataModule) -> int:
    log.info("measuring how many epochs fit into budget_minutes=%g", plain["budget_minutes"])
    with outcome.sentences():
        measured = _measured(plain, weights, data, num_steps=BUDGET_STEPS)
    size, minutes = data.view.size, plain["budget_minutes"]
    found = fitted_epochs(measured.costs, data, lambda epochs: train_sizes(plain, size, epochs), minutes)
    log.info("epochs=%d", found)
    return found


@dataclass(frozen=True)
class _Measured:
    costs: Costs
    classifier: SceneClassifier
    network: nn.Module
    trainer: Trainer
    precision: str


def _measured(plain: dict[str, Any], weights: Weights | None, data: SceneDataModule, num_steps: int) -> _Measured:
    precision = precision_of(plain)
    trainer = trainer_of(plain, Path(), data, [], precision)
    network = network_of(plain, weights, data, trainer.world_size)
    classifier = classifier_of(plain, head_alone(network, plain) or network, data)
    if plain["budget_minutes"] is not None and trainer.world_size > 1:
        raise UserError("budget_minutes is for one device: set epochs instead")
    costs = measure(
        classifier,
        network,
        data,
        num_batches=configuration.num_batches(plain, len(data.train) // data.batch_size),
        head_first=begins_with_head(plain),
        device=trainer.strategy.root_device,
        precision=precision,
        averages=plain["recipe"]["ema_decay"] is not None,
        num_steps=num_steps,
    )
    return _Measured(costs, classifier, network, trainer, precision)


def _plain(cfg: DictConfig, folder: Path, num_steps: int) -> dict[str, Any]:
    for key in FILLED_IN:
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


def _is_new(folder: Path, *, holds: bool) -> bool:
    """Whether there is nothing to go on from; who holds the folder moves a damaged checkpoint aside.

    That of the best epoch counts as well, for the end of the run reads it. Asked before the record is opened, which
    removes a checkpoint whose record is gone, and in this order: another rank may be at it.
    """
    last, best = folder / record.LAST, folder / record.BEST
    if not (record.read_summary(folder) or {}).get("config_digest") or not last.exists():
        return True
    damaged = [path for path in (last, best) if not is_whole(path)]
    if not damaged:
        log.info("going on from %s", last)
        return False
    for path in damaged if holds else []:
        aside = path.with_name(f"{path.name}.damaged")
        try:
            path.replace(aside)
        except FileNotFoundError:
            log.warning("%s is missing: the run begins anew", path)
        else:
            log.warning("%s is damaged: moved to %s, and the run begins anew", path, aside.name)
    return True


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
    if alone or (is_new and begins_with_head(plain)):
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
