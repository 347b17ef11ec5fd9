"""`python -m intel_scenes.compare`: what the runs of a study folder show."""

from pathlib import Path

from intel_scenes import cli
from intel_scenes.config import StudyFolderConfig
from intel_scenes.errors import UserError
from intel_scenes.sweeps.runner import Job


def compare(config: StudyFolderConfig, _job: Job) -> None:
    """Compares the runs of a folder, writes tables and the report page beside them, and prints the table."""
    from intel_scenes.studies import publish  # imports scipy, for which --help need not wait
    from intel_scenes.sweeps.plan import note_baseline

    images = Path(config.data.root).expanduser() if config.data.root else None
    if images is not None and not images.is_dir():
        raise UserError(f"data.root={images} is no folder: leave it out, or give the one that holds the images")
    cli.say(publish.compare_and_write(Path(config.folder), config.compare, images=images, form=config.format))
    if config.compare.baseline is not None:
        note_baseline(Path(config.folder), str(config.compare.baseline))


if __name__ == "__main__":
    cli.start("compare", compare)
