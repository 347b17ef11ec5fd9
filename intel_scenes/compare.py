"""`python -m intel_scenes.compare`: what the runs of a study folder show."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from intel_scenes import cli
from intel_scenes.errors import UserError
from intel_scenes.sweeps.runner import Job


def compare(cfg: DictConfig, _job: Job) -> None:
    """Compares the runs of a folder, writes tables and the report page beside them, and prints the table."""
    if OmegaConf.is_missing(cfg, "folder"):
        raise UserError("folder=FOLDER is missing: the folder of a sweep, such as multirun/models")
    from intel_scenes.studies import publish  # imports scipy, for which --help need not wait

    images = Path(cfg.data.root).expanduser() if cfg.data.root else None
    if images is not None and not images.is_dir():
        raise UserError(f"data.root={images} is no folder: leave it out, or give the one that holds seg_test")
    cli.say(publish.compare_and_write(Path(cfg.folder), cfg.compare, images=images, form=cfg.format))


if __name__ == "__main__":
    cli.start("compare", compare)
