"""One run, from its configuration to its record: the module to read first."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from intel_scenes import record
from intel_scenes.config import RunConfig, warn_of_late_steps
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.digests import Facts, digests
from intel_scenes.models.libraries import resolve_weights
from intel_scenes.models.weights import Weights
from intel_scenes.record import Origin, Summary
from intel_scenes.runtime import Runtime, resolve_threads, runtime_of_trainer
from intel_scenes.training import memory
from intel_scenes.training.best_epoch import evaluate_best_epoch
from intel_scenes.training.build import (
    build_classifier,
    build_data,
    build_loggers,
    build_network,
    build_trainer,
    check_devices,
    check_parts,
    report_images,
    weights_of_classes,
)
from intel_scenes.training.checkpoints import EpochRecorder
from intel_scenes.training.claim import Place, claimed, completed, finished, recorded, settle_previous_run, starts_fresh
from intel_scenes.training.compiling import compile_network
from intel_scenes.training.console import RunSeries, TrainingProgress, describe, is_described
from intel_scenes.training.cost_forecast import fitting_batch_size
from intel_scenes.training.epoch_budget import (
    EpochsOfBudget,
    at_equal_steps,
    epochs_within_budget,
    known_epochs,
    unshared_epochs,
    with_growing_batches,
    with_steps,
)
from intel_scenes.training.frozen_features import Head, add_backbone, fit_head, frozen_features
from intel_scenes.training.gradient_noise import NoiseRecorder
from intel_scenes.training.identity import facts_of, identity
from intel_scenes.training.other_epochs import hint_of_other_epochs
from intel_scenes.training.ranks import Ranks

log = logging.getLogger(__name__)


def run(
    config: RunConfig,
    place: Place,
    origin: Origin,
    *,
    epochs_of_budget: EpochsOfBudget = unshared_epochs,
    ranks: Ranks | None = None,
    callbacks: Sequence[Callback] = (),
) -> Summary | None:
    """Train one configuration, evaluate its best epoch and write the record.

    A complete run is not trained again; an interrupted one is resumed from its last epoch.

    Args:
        config: Configuration of the run. The number of steps is not resolved yet, because it depends on the images.
        place: Folder of the run, and what to do with another run there.
        origin: Overrides that were typed and files of `conf/` that were chosen, for the record.
        epochs_of_budget: Returns the number of epochs that fit into `budget_minutes`; a sweep shares it among the seeds
            of a configuration.
        ranks: Processes of a run on several devices, whose folder the first one alone reads and writes; None for one.
        callbacks: Further callbacks of the Trainer, which must not change the training.

    Returns:
        The content of `summary.json`; None on all processes of a distributed run but the first.

    Raises:
        UserError: The run failed for a reason that the user can fix. If training had begun, the record says `failed`.
    """
    folder, ranks = place.folder, ranks or Ranks()
    check_parts(config, origin.typed)
    torch.set_num_threads(resolve_threads(config.threads))

    # A run is identified by its configuration and the contents of its weights and images. A complete one is recognized
    # without a claim on its folder and without its devices; one whose budget was never measured cannot be complete.
    weights = resolve_weights(config.model)
    data = build_data(config, origin.typed, reports=False)
    config = at_equal_steps(config, data).with_batch_size(data.batch_size)
    facts = facts_of(config, weights, data)
    series = RunSeries(place.siblings, facts.data)
    if not is_described(series):
        report_images(data)
    if ranks.decided(lambda: _is_complete(config, data, facts, folder)):
        return _result(config, folder, ranks)

    runtime = runtime_of_trainer(config.trainer, config.threads)
    check_devices(config, data, runtime)
    with claimed(place, is_first=ranks.is_first) as claim:
        epochs = known_epochs(config, facts, folder)  # another process may have measured them before the claim
        if not epochs:
            budget_digest = digests(config, facts).budget
            epochs = epochs_of_budget(budget_digest, lambda: epochs_within_budget(config, weights, data, runtime))
        config = with_steps(config, data, epochs, folder)
        if ranks.decided(lambda: completed(config, facts, folder)):  # or have completed the run
            return _result(config, folder, ranks)
        data = with_growing_batches(data, config)
        settle_previous_run(config, facts, place, claim)
        warn_of_late_steps(config)

        # Network, optimizer and Trainer. The seed is set right before the network draws its random weights.
        memory.begin(runtime.device)
        torch.manual_seed(config.seed)
        network = build_network(config, weights, data, runtime.num_devices)
        head = Head(network, config.model.name) if config.recipe.trained == "head" else None
        classifier = build_classifier(config, head or network, data.splits, runtime)
        progress = TrainingProgress(has_bar=config.trainer.enable_progress_bar)
        recorder = EpochRecorder(folder, progress, before_writing=claim.check, primary_metric=config.primary_metric)
        noise = [NoiseRecorder(folder, config.noise_scale, claim.check)] if config.noise_scale else []
        own = [recorder, progress, *noise, *callbacks]
        trainer = build_trainer(config, runtime, own, before_writing=claim.check)
        trainer.loggers = build_loggers(config)
        identified = identity(config, origin, facts, weights, data, network, runtime)
        if ranks.is_first:
            assert config.num_steps is not None
            describe(
                identified,
                data.splits,
                runtime,
                series,
                batches_per_epoch=config.trainer.num_batches(data.num_batches),
                num_steps=config.num_steps,
                is_growing=bool(data.sizes),
            )
            if hint := hint_of_other_epochs(place, origin.overrides, identified):
                log.info(hint)

        # Train, resuming from the last epoch of an earlier attempt if there is one, and evaluate the best epoch. The
        # record says `interrupted` until its block ends; every error but a kill is written into it.
        resume_from = None if ranks.decided(lambda: starts_fresh(folder)) else folder / record.LAST
        fitting = partial(fitting_batch_size, config, weights, data, runtime)
        with recorded(config, origin, identified, folder, claim, ranks, fitting) as entry:
            train_data, features_seconds = _training_data(
                network, head, data, config, weights, runtime, is_fresh=resume_from is None
            )
            if memory.is_resident(config.data.device_resident, runtime.device, train_data.images.values.nbytes):
                train_data = train_data.on(runtime.device)
            compile_seconds = compile_network(classifier, train_data, runtime) if config.compile else None
            trainer.fit(classifier, train_data, ckpt_path=resume_from, weights_only=True)
            if ranks.is_first:
                results = evaluate_best_epoch(entry.summary, folder, classifier.network, train_data, recorder, runtime)
                entry.summary = replace(results, features_seconds=features_seconds, compile_seconds=compile_seconds)
                if head is not None:
                    add_backbone(folder, network)
        return _result(config, folder, ranks)


def _is_complete(config: RunConfig, data: SceneDataModule, facts: Facts, folder: Path) -> bool:
    epochs = known_epochs(config, facts, folder)
    return epochs is not None and completed(with_steps(config, data, epochs, folder), facts, folder)


def _result(config: RunConfig, folder: Path, ranks: Ranks) -> Summary | None:
    return finished(config, folder) if ranks.is_first else None


def _training_data(
    network: nn.Module,
    head: Head | None,
    data: SceneDataModule,
    config: RunConfig,
    weights: Weights | None,
    runtime: Runtime,
    *,
    is_fresh: bool,
) -> tuple[SceneDataModule, float | None]:
    """Return the data to train on, and the seconds spent on computing features of the frozen backbone.

    A head that is trained alone is trained on these features. With `recipe.head_first` the head is fitted to them, and
    then all layers are trained on the images; a resumed run has the fitted head in its checkpoint.
    """
    is_head_first = config.effective_recipe.head_first and is_fresh
    if head is None and not is_head_first:
        return data, None
    last_layer = head or Head(network, config.model.name)
    features, seconds = frozen_features(
        network, last_layer, data, model=config.model, weights=weights, seed=config.seed, runtime=runtime
    )
    if head is not None:
        return features, seconds
    fit_head(
        last_layer.layer,
        features.images,
        features.splits.train,
        config.recipe.label_smoothing,
        weights_of_classes(config, data.splits),
    )
    return data, seconds
