"""Compare backbones, optimizers and schedulers on Intel scenes."""
