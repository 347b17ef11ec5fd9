"""One run, from its configuration to its record: the page to read first."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from intel_scenes import record
from intel_scenes.config import RunConfig, warn_of_late_steps
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.digests import digests
from intel_scenes.models.libraries import resolve_weights
from intel_scenes.models.weights import Weights
from intel_scenes.record import Origin, Summary
from intel_scenes.runtime import Runtime, emulates, resolve_threads, runtime_of_trainer
from intel_scenes.training import memory
from intel_scenes.training.build import (
    build_classifier,
    build_data,
    build_loggers,
    build_network,
    build_trainer,
    check_devices,
    check_parts,
    weights_of_classes,
)
from intel_scenes.training.checkpoints import EpochRecorder
from intel_scenes.training.claim import Place, claimed, completed, finished, recorded, settle_previous_run, starts_fresh
from intel_scenes.training.compiling import compile_network
from intel_scenes.training.console import TrainingProgress, beginning
from intel_scenes.training.epoch_budget import (
    EpochsOfBudget,
    at_equal_steps,
    known_epochs,
    measure_each_time,
    measured_epochs,
    with_steps,
)
from intel_scenes.training.evaluation import evaluate
from intel_scenes.training.frozen_features import Head, add_backbone, fit_head, frozen_features
from intel_scenes.training.identity import facts_of, identity
from intel_scenes.training.other_epochs import hint_of_other_epochs

log = logging.getLogger(__name__)


def run(
    config: RunConfig,
    place: Place,
    origin: Origin,
    *,
    epochs_of_budget: EpochsOfBudget = measure_each_time,
    callbacks: Sequence[Callback] = (),
) -> Summary | None:
    """Trains one configuration, evaluates its best epoch, and leaves the record in a folder.

    A run that is complete is left as it is; one that was cut off goes on from its last epoch.

    Args:
        config: What the run is asked to do; the number of its steps is still open, because the images make it.
        place: The folder of the run, and what is to become of another run there.
        origin: The overrides that were typed and the files of `conf/` that were chosen, for the record.
        epochs_of_budget: Asks for the number of epochs that fit into `budget_minutes`; a sweep shares the answer among
            the seeds of a configuration.
        callbacks: Further callbacks of the Trainer, which only look on.

    Returns:
        What `summary.json` holds; None on the processes beside the first of a distributed run.

    Raises:
        UserError: Something that the user can mend. Where training had begun, the record says `failed`.
    """
    folder = place.folder
    check_parts(config, origin.typed)
    torch.set_num_threads(resolve_threads(config.threads))

    # Which run this is: its configuration, with the contents of its weights and images. A run that is complete can be
    # recognized without a claim on its folder, and without its devices; one whose budget was never measured cannot be
    # complete.
    weights = resolve_weights(config.model)
    data = build_data(config, origin.typed)
    config = at_equal_steps(config, data)
    facts = facts_of(config, weights, data)
    epochs = known_epochs(config, facts, folder)
    if epochs and (summary := completed(with_steps(config, data, epochs, folder), facts, folder)):
        return summary

    runtime = runtime_of_trainer(config.trainer, config.threads)
    check_devices(config, data, runtime)
    with claimed(folder, is_first=runtime.is_first) as claim:
        epochs = known_epochs(config, facts, folder)  # another process may have measured them before the claim
        if not epochs:
            budget_digest = digests(config, facts).budget
            epochs = epochs_of_budget(budget_digest, lambda: measured_epochs(config, weights, data, runtime))
        config = with_steps(config, data, epochs, folder)
        if summary := completed(config, facts, folder):  # or completed the run
            return summary
        settle_previous_run(config, facts, place, claim)
        warn_of_late_steps(config)

        # Network, optimizer and Trainer. The seed comes right before the network, whose random weights it makes.
        memory.begin(runtime.device)
        torch.manual_seed(config.seed)
        network = build_network(config, weights, data, runtime.num_devices)
        head = Head(network, config.model.name) if config.recipe.trained == "head" else None
        classifier = build_classifier(config, head or network, data.splits)
        progress = TrainingProgress(has_bar=config.trainer.enable_progress_bar)
        recorder = EpochRecorder(folder, progress, before_writing=claim.check, primary_metric=config.primary_metric)
        trainer = build_trainer(config, runtime, [recorder, progress, *callbacks])
        trainer.loggers = build_loggers(config)
        identified = identity(config, origin, facts, weights, data, network, runtime)
        if runtime.is_first:
            steps_per_epoch = config.trainer.num_batches(data.num_batches)
            log.info("\n".join(beginning(identified, data.splits, steps_per_epoch=steps_per_epoch)))
            if emulates(runtime.precision, runtime.device):
                log.warning("this processor only emulates %s: trainer.precision=32 is faster", runtime.precision)
            if hint := hint_of_other_epochs(place, origin.overrides, identified):
                log.info(hint)

        # Train, from the last epoch of an earlier attempt if there is one, and evaluate the best epoch. Until the block
        # of the record ends it says `interrupted`; every error but a kill is written into it.
        resume_from = None if starts_fresh(folder, claim) else folder / record.LAST
        with recorded(config, origin, identified, folder, claim) as entry:
            train_data, features_seconds = _on_features(
                network, head, data, config, weights, runtime, is_fresh=resume_from is None
            )
            if memory.is_resident(config.data.device_resident, runtime.device, train_data.images.values.nbytes):
                train_data = train_data.on(runtime.device)
            compile_seconds = compile_network(classifier, train_data, runtime) if config.compile else None
            trainer.fit(classifier, train_data, ckpt_path=resume_from, weights_only=True)
            if runtime.is_first:
                results = evaluate(entry.summary, folder, classifier.network, train_data, recorder, runtime)
                entry.summary = replace(results, features_seconds=features_seconds, compile_seconds=compile_seconds)
                if head is not None:
                    add_backbone(folder, network)
        return finished(config, folder) if runtime.is_first else None


def _on_features(
    network: nn.Module,
    head: Head | None,
    data: SceneDataModule,
    config: RunConfig,
    weights: Weights | None,
    runtime: Runtime,
    *,
    is_fresh: bool,
) -> tuple[SceneDataModule, float | None]:
    """What to train on, and the seconds that features of the frozen backbone took.

    A head that is trained alone is trained on these features. Where the recipe has the head first, it is fitted to
    them, unless a checkpoint holds what came of that, and then all layers are trained on the images.
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
