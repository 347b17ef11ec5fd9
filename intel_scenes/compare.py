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
    folder = _study_folder(config)
    cli.say(publish.compare_and_write(folder, config.compare, images=images, form=config.format))
    if config.compare.baseline is not None:
        note_baseline(folder, str(config.compare.baseline))


def _study_folder(config: StudyFolderConfig) -> Path:
    """Return the folder to compare: the one that is named, or that of the shards after merging them.

    Raises:
        UserError: One folder has an output, a list has none or is empty, or its folders cannot be merged.
    """
    if isinstance(config.folder, str):
        if config.output is not None:
            raise UserError(f"output={config.output} has no effect with one folder: leave it out, or list several")
        return Path(config.folder)
    if not config.folder:
        raise UserError("folder=[] names no folder: list the folders of the shards, [A,B,...]")
    if not config.output:
        raise UserError(
            "a list of folders is merged into one study before it is compared: set output=FOLDER, a folder for that "
            "study"
        )
    from intel_scenes.studies.merge import merge

    merge([Path(name).expanduser() for name in config.folder], output := cli.output_folder(config.output))
    return output


if __name__ == "__main__":
    cli.start("compare", compare)
