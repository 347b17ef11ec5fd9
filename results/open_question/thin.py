"""Write the training images to leave out so that the classes become unequal: `python -m ...thin SEG_TRAIN FILE`.

Of the class of rank k, in alphabetical order, a share of 1/k is kept (Zipf's law): all buildings, half of the forests,
a sixth of the streets.
"""

import sys
from pathlib import Path

import numpy as np

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


if __name__ == "__main__":
    Path(sys.argv[2]).write_text("".join(f"{path}\n" for path in left_out(Path(sys.argv[1]))))
