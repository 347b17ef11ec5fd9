"""Networks that torchvision does not have, by name."""

from functools import partial

from intel_scenes.models.resnet9 import ResNet9

# Nobody publishes weights of theirs. Features are kept by the name, so one that comes to compute something else gets
# another.
OWN = {"resnet9": partial(ResNet9, width=64), "resnet9_x0_5": partial(ResNet9, width=32)}
