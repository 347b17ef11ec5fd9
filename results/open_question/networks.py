"""The small network of the open question without BatchNorm, for the row on weight decay."""

import torch
from torch import nn

from intel_scenes.models.resnet9 import ResNet9


def resnet9_without_norms(num_classes: int) -> nn.Module:
    """Build `resnet9_x0_5` with a bias in the place of each BatchNorm.

    There is no scale besides the weights, because weight decay would not reach it. The weights are drawn so that the
    activations keep their size without BatchNorm: what a ReLU halves of their mean square, max-pooling doubles.
    """
    network = ResNet9(num_classes, width=32)
    for block in list(network.modules()):
        convolution = dict(block.named_children()).get("conv")
        if isinstance(convolution, nn.Conv2d):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear")
            convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
            block.norm = nn.Identity()
    return network
