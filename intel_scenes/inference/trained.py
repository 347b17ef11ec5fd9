"""The network of a finished run with its best weights and preprocessing; the images of the run are not needed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from intel_scenes.config import NO_AUGMENTATION, Views
from intel_scenes.data.mixing import Mixing
from intel_scenes.data.pipelines import TTA, ImagePipeline
from intel_scenes.data.squares import Storing
from intel_scenes.errors import UserError
from intel_scenes.inference.load_run import FinishedRun, trained_network
from intel_scenes.models.scores import fitted_temperature
from intel_scenes.record import Predictions
from intel_scenes.runtime import Runtime
from intel_scenes.sections import not_one_of
from intel_scenes.training.build import view_of


@dataclass(frozen=True)
class Trained:
    """A network that predicts as the evaluation of its run did.

    Attributes:
        name: Folder of the run.
        classes: Names of the classes, in the order of the logits.
        network: Network from (B, 3, S, S) normalized images to (B, C) logits, in evaluation mode.
        pipeline: Preprocessing of stored squares, with test-time augmentation.
        storing: How images are resized to stored squares.
        temperature: Fitted to the validation images; logits divided by it give calibrated probabilities.
        runtime: Device and precision.
    """

    name: str
    classes: tuple[str, ...]
    network: nn.Module
    pipeline: ImagePipeline
    storing: Storing
    temperature: float
    runtime: Runtime

    def views(self, squares: Mapping[Storing, Tensor]) -> Iterator[Tensor]:
        """Yield the network's input for each view of (B, 3, S, S) uint8 squares, given by how they are stored."""
        return self.pipeline.tta_views(squares[self.storing])


def trained(run: FinishedRun, views: Views | None = None, *, trust: bool = False) -> Trained:
    """Rebuild the network of a run with the weights of its best epoch.

    Nothing that the record names is imported or instantiated unless it is trusted, and the checkpoint is loaded with
    `weights_only=True`.

    Args:
        run: A finished run.
        views: Test-time augmentation; None is that of the run.
        trust: Whether the class of a custom network may be imported.

    Raises:
        UserError: `views` is unknown, the network cannot be rebuilt, or the checkpoint is missing, corrupt or does not
            fit.
    """
    if views is not None and (wrong := not_one_of(views, tuple(TTA))):
        raise UserError(f"views={views} {wrong}")
    config = run.config
    network, view = trained_network(run, trust=trust), view_of(config.model, config.data)
    size = config.data.store_size or view.resize
    tta = config.recipe.views if views is None else views
    temperature = run.summary.temperature
    if temperature is None or temperature <= 0:  # a record without the key, or one that was edited
        val = Predictions.read(run.folder, "val")
        temperature = fitted_temperature(val.probabilities, val.labels)
    runtime = run.runtime
    return Trained(
        name=str(run.folder),
        classes=run.summary.classes or (),
        network=network.to(runtime.device).eval(),
        pipeline=ImagePipeline(view, NO_AUGMENTATION, Mixing(0, 0), tta=tta, seed=0),
        storing=Storing(config.data.store_rule, size, view.interpolation, view.crop_of(size)),
        temperature=temperature,
        runtime=runtime,
    )


def check_classes(members: list[Trained]) -> None:
    """Check that networks have the same classes.

    Raises:
        UserError: The classes differ.
    """
    first = members[0]
    for other in members[1:]:
        if other.classes != first.classes:
            raise UserError(
                f"{other.name} and {first.name} have different classes ({', '.join(other.classes)} and "
                f"{', '.join(first.classes)}): give runs with the same classes"
            )
