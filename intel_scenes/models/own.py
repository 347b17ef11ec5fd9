"""Small networks of this package, by name."""

from functools import partial

from intel_scenes.models.resnet9 import ResNet9

# They have no published weights. Cached features are keyed by the name: a change of the architecture needs a new name.
OWN = {"resnet9": partial(ResNet9, width=64), "resnet9_x0_5": partial(ResNet9, width=32)}
