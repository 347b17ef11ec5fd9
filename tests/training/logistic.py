"""scikit-learn's logistic regression on the features of a finished `recipe=linear_probe` run.

`python -m tests.training.logistic FOLDER` prints both. Its regularization is chosen on the same validation split.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import yaml
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from intel_scenes import record
from intel_scenes.models.weights import resolve_weights
from intel_scenes.training.build import network_of
from intel_scenes.training.frozen_features import frozen, head_alone
from intel_scenes.training.images import data_module

INVERSE_DECAYS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def main(folder: Path) -> None:
    """Fits on the training images of the run, chooses on its validation split, and reads the test images once."""
    plain = yaml.safe_load((folder / record.CONFIG).read_text())
    summary = json.loads((folder / record.SUMMARY).read_text())
    weights = resolve_weights(plain["model"]["name"], plain["model"]["weights"])
    assert weights is not None
    torch.set_num_threads(summary["threads"])
    images = data_module(plain)
    network = network_of(plain, weights, images)
    head = head_alone(network, plain)
    assert head is not None, "the run trained more than the head"
    data, _ = frozen(
        network,
        head,
        images,
        plain,
        weights=weights.digest,
        device=torch.device("cpu"),
        precision=summary["precision"],
    )
    (x, y), (x_val, y_val), (x_test, y_test) = (
        [part.numpy() for part in stored.batch(chosen)[:2]]
        for stored, chosen in ((data.images, data.train), (data.images, data.val), (data.test_images, data.test))
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    fitted = [
        make_pipeline(StandardScaler(), LogisticRegression(C=inverse, max_iter=300)).fit(x, y)
        for inverse in INVERSE_DECAYS
    ]
    best = max(fitted, key=lambda one: one.score(x_val, y_val))
    print(
        f"logistic regression: valid {best.score(x_val, y_val):.2%}, test {best.score(x_test, y_test):.2%}, {best[-1]}"
    )
    print(f"the run: valid {summary['val_accuracy']:.2%}, test {summary['test_accuracy']:.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
