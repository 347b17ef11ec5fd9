from torch import Tensor, nn


class PlainNetwork(nn.Module):
    """A small network without BatchNorm and dropout: its output for an image does not depend on the batch."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.GroupNorm(4, 16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.head = nn.Linear(32, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))
