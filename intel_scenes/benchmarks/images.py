"""The images that are measured on, read and split as a training would have them."""

from pathlib import Path

from intel_scenes.config import NO_AUGMENTATION, AugmentConfig, DataConfig, ModelConfig
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.mixing import Mixing
from intel_scenes.data.pipelines import ImagePipeline
from intel_scenes.training.build import source_of, view_of

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
    view = view_of(ModelConfig(model_name, weights=None), data)
    module = SceneDataModule(
        source_of(data),
        ImagePipeline(view, augmentation, Mixing(0, 0), tta=1, seed=SEED),
        train_sizes=(view.size,),
        batch_size=data.batch_size,
        seed=SEED,
        val_fraction=data.val_fraction,
        split_seed=data.split_seed,
        store_size=data.store_size or view.resize,
        store_rule=data.store_rule,
        cache_dir=Path(data.cache_dir).expanduser(),
    )
    module.prepare_data()
    module.setup()
    return module
