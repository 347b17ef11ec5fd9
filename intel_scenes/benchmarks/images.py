"""The images that are measured on, read and split as a training would have them."""

from intel_scenes.config import NO_AUGMENTATION, AugmentConfig, DataConfig, ModelConfig
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.training import build

SEED = 1  # of the order and the augmentation


def read_images(data: DataConfig, model_name: str, augmentation: AugmentConfig = NO_AUGMENTATION) -> SceneDataModule:
    """Reads images as a network with random weights sees them; those that are drawn are drawn where they are missing.

    Args:
        data: Which images, the side of the network's input, and the batch size.
        model_name: Of the network.
        augmentation: What a training image goes through.

    Raises:
        UserError: They cannot be had or read.
    """
    return build.read_images(data, ModelConfig(model_name, weights=None), seed=SEED, augmentation=augmentation)
