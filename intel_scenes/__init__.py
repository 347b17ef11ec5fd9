"""Compare backbones, optimizers and schedulers on Intel scenes."""

from importlib.metadata import version

__version__ = version("intel-scenes")
