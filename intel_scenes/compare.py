"""The command `compare`: compare the runs of a study folder."""

from pathlib import Path

from intel_scenes import cli
from intel_scenes.config import StudyFolderConfig
from intel_scenes.errors import UserError
from intel_scenes.sweeps.runner import Job


def compare(config: StudyFolderConfig, _job: Job) -> None:
    """Compare the runs of a folder, write the CSV files and the report into it, and print the answer and the tables."""
    from intel_scenes.studies import publish  # imports scipy, which --help does not need
    from intel_scenes.sweeps.plan import note_baseline

    images = Path(config.data.root).expanduser() if config.data.root else None
    if images is not None and not images.is_dir():
        raise UserError(f"data.root={images} is not a folder: set it to the folder of the images, or leave it out")
    cli.say(publish.compare_and_write(Path(config.folder), config.compare, images=images, form=config.format))
    if config.compare.baseline is not None:
        note_baseline(Path(config.folder), str(config.compare.baseline))


if __name__ == "__main__":
    cli.start("compare", compare)
