"""Images of the benchmarks, read and split as for a training."""

from intel_scenes.config import NO_AUGMENTATION, AugmentConfig, DataConfig, ModelConfig
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.training import build

SEED = 1  # of order and augmentation


def read_images(data: DataConfig, model_name: str, augmentation: AugmentConfig = NO_AUGMENTATION) -> SceneDataModule:
    """Read images as a network with random weights sees them; drawn scenes are created if the cache lacks them.

    Args:
        data: The images, the side of the network's input, and the batch size.
        model_name: Name of the network.
        augmentation: Augmentation of the training images.

    Raises:
        UserError: The images are missing or cannot be read.
    """
    return build.read_images(data, ModelConfig(model_name, weights=None), seed=SEED, augmentation=augmentation)
