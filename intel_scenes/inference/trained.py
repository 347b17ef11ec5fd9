"""The network of a finished run with its best weights, and all that it needs to predict: no images of the run."""

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
        name: The folder of the run.
        classes: In the order of the logits.
        network: (B, 3, S, S) normalized images to (B, C) logits, in evaluation mode.
        pipeline: How stored squares are seen.
        storing: How images are stored.
        temperature: That validation chose; logits are divided by it for calibrated probabilities.
        runtime: Where and how precisely to compute.
    """

    name: str
    classes: tuple[str, ...]
    network: nn.Module
    pipeline: ImagePipeline
    storing: Storing
    temperature: float
    runtime: Runtime

    def views(self, squares: Mapping[Storing, Tensor]) -> Iterator[Tensor]:
        """What the network is shown of (B, 3, S, S) uint8 squares, by how they are stored, on its device."""
        return self.pipeline.tta_views(squares[self.storing])


def trained(run: FinishedRun, views: Views | None = None, *, trust: bool = False) -> Trained:
    """Rebuilds the network of a run with the weights of its best epoch.

    Nothing that the record names is imported or instantiated unless it is trusted, and the checkpoint is read with
    `weights_only=True`.

    Args:
        run: A finished run.
        views: Test-time augmentation; None is that of the run.
        trust: Whether the class of a custom network may be imported.

    Raises:
        UserError: There are no such views, the record is not enough to build the network, or the checkpoint is
            missing, damaged or does not fit.
    """
    if views is not None and (wrong := not_one_of(views, tuple(TTA))):
        raise UserError(f"views={views} {wrong}")
    config = run.config
    network, view = trained_network(run, trust=trust), view_of(config.model, config.data)
    size = config.data.store_size or view.resize
    crop = view.size if view.resize == size else size
    tta = config.recipe.views if views is None else views
    temperature = run.summary.temperature
    if temperature is None or temperature <= 0:  # a record from before it was kept, or one that was changed
        val = Predictions.read(run.folder, "val")
        temperature = fitted_temperature(val.probabilities, val.labels)
    runtime = run.runtime
    return Trained(
        name=str(run.folder),
        classes=run.summary.classes or (),
        network=network.to(runtime.device).eval(),
        pipeline=ImagePipeline(view, NO_AUGMENTATION, Mixing(0, 0), tta=tta, seed=0),
        storing=Storing(config.data.store_rule, size, view.interpolation, crop),
        temperature=temperature,
        runtime=runtime,
    )


def check_classes(members: list[Trained]) -> None:
    """Checks that networks tell the same classes apart.

    Raises:
        UserError: They do not.
    """
    first = members[0]
    for other in members[1:]:
        if other.classes != first.classes:
            raise UserError(
                f"{other.name} and {first.name} are of other classes ({', '.join(other.classes)} and "
                f"{', '.join(first.classes)}): name runs of the same classes"
            )
