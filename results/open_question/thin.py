"""Write the training images to leave out so that the classes become unequal.

    python -m results.open_question.thin SEG_TRAIN FILE

Of the class of rank k, in alphabetical order, a share of 1/k is kept (Zipf's law): all buildings, half of the forests,
a sixth of the streets.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from results import analysis

SEED = 0


def left_out(root: Path) -> list[str]:
    """Return the paths `CLASS/FILE` to leave out.

    Args:
        root: Folder with a folder for each class.
    """
    rng, paths = np.random.default_rng(SEED), list[str]()
    for rank, folder in enumerate(sorted(path for path in root.iterdir() if path.is_dir()), start=1):
        names = sorted(path.name for path in folder.iterdir())
        num_kept = round(len(names) / rank)
        paths += [f"{folder.name}/{names[index]}" for index in sorted(rng.permutation(len(names))[num_kept:])]
    return paths


def main(arguments: Sequence[str]) -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="SEG_TRAIN", help="folder with a folder of images for each class")
    parser.add_argument("file", type=Path, metavar="FILE", help="file to write, for data.exclude")
    options = parser.parse_args(arguments)
    options.file.write_text("".join(f"{path}\n" for path in left_out(options.root)))


if __name__ == "__main__":
    analysis.run(main)
