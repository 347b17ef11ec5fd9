"""The small network of the open question without BatchNorm, for the row on weight decay."""

from torch import nn

from intel_scenes.models.resnet9 import ResNet9


def resnet9_without_norms(num_classes: int) -> nn.Module:
    """Build `resnet9_x0_5` with a bias in the place of each BatchNorm.

    There is no scale besides the weights, because weight decay would not reach it. The weights are drawn so that the
    activations keep their size without BatchNorm: what a ReLU halves of their mean square, max-pooling doubles.
    """
    network = ResNet9(num_classes, width=32)
    for module in list(network.modules()):
        if isinstance(getattr(module, "norm", None), nn.BatchNorm2d):
            nn.init.kaiming_normal_(module.conv.weight, nonlinearity="linear")
            module.conv.bias = nn.Parameter(module.conv.weight.new_zeros(module.conv.out_channels))
            module.norm = nn.Identity()
    return network
