"""ResNet9: a small residual network to train from random weights on small images in minutes."""

from collections import OrderedDict

from torch import Tensor, nn


class ResNet9(nn.Module):
    """Eight 3 x 3 convolutions and a linear head: Page, "How to Train Your ResNet", 2018, adapted to larger images.

    Page's network takes 32 px. Here the first convolution has stride 2, so that 64 px cost what 32 px cost there, and
    the last feature map is average-pooled instead of max-pooled. With three more halvings that map has a sixteenth of
    the image's side; images smaller than 15 px leave an empty map.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        """Build the network with random weights.

        Args:
            num_classes: Number of logits.
            width: Number of channels of the first convolution; the last one has eight times as many.
        """
        super().__init__()
        self.stem = _convolution(3, width, stride=2)
        self.layer1 = nn.Sequential(_convolution(width, 2 * width), nn.MaxPool2d(2), _Residual(2 * width))
        self.layer2 = nn.Sequential(_convolution(2 * width, 4 * width), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(_convolution(4 * width, 8 * width), nn.MaxPool2d(2), _Residual(8 * width))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, H, W)` to logits `(B, num_classes)`."""
        features: Tensor = self.layer3(self.layer2(self.layer1(self.stem(images))))
        logits: Tensor = self.fc(self.avgpool(features).flatten(1))
        return logits


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        changes: Tensor = self.layers(features)
        return features + changes


def _convolution(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            norm=nn.BatchNorm2d(out_channels),
            relu=nn.ReLU(inplace=True),
        )
    )
