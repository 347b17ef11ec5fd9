"""Labels of arms that differ in their weights files."""

import numpy as np
import pytest
import yaml

from intel_scenes.errors import UserError
from intel_scenes.studies.comparison import compare
from tests.studies.simulated_records import leave_run


@pytest.mark.parametrize(
    ("plan", "files", "labels"),
    [
        ({"compared": ["model.name"]}, ("/a/lite0.pth", "/b/lite1.pth"), {"lite0", "lite1"}),
        ({}, ("/a/x.pth", "~/y.pth"), {"lite0/model.weights=x.pth", "lite1/model.weights=y.pth"}),
        ({}, ("/a/x.pth", "/b/x.pth"), {"lite0/model.weights=/a/x.pth", "lite1/model.weights=/b/x.pth"}),
    ],
)
def test_labels_have_file_names_and_no_key_that_a_planned_name_implies(tmp_path, plan, files, labels):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plan))
    for name, file in zip(("lite0", "lite1"), files, strict=True):
        for seed in (1, 2):
            typed = {"model.name" if plan else "model": name, "model.weights": file, "seed": seed}
            right = np.random.default_rng(seed).random(60) < (0.9 if name == "lite0" else 0.7)
            leave_run(tmp_path, f"{name}-{seed}", typed, right, model=name)
    assert {arm.label for arm in compare(tmp_path).arms} == labels
    if not plan:  # a baseline may be typed as its label is, or with the whole path of the file
        for label in (label for label in labels if label.startswith("lite1")):
            for baseline in (label, f"lite1/model.weights={files[1]}", f"lite1/{files[1]}"):
                assert compare(tmp_path, baseline=baseline).baseline == label
        with pytest.raises(UserError, match=r"elsewhere/x\.pth is not an arm: choose one of"):
            compare(tmp_path, baseline="lite0/model.weights=/elsewhere/x.pth")
    if labels == {"lite0", "lite1"}:
        for baseline in ("lite0", "model.name=lite0"):
            assert compare(tmp_path, baseline=baseline).baseline == "lite0"
