from omegaconf import OmegaConf

from intel_scenes import plan, record
from tests.studies.made import leave_run

RUN = {"epochs": 4, "budget_minutes": None, "model": {"name": "resnet18"}}
RUN |= {"data": {"image_size": 64, "source": "synthetic", "num_test": 6}}
SWEEP = OmegaConf.create(RUN | {"study": {"tuned": []}, "compare": {"baseline": None}})


def shown(study, capsys):
    """What the plan of one more run says."""
    plan.show({"new": ["seed=2"]}, set(), study, SWEEP, [], lambda _: OmegaConf.create(RUN))
    return capsys.readouterr().out


def test_a_run_is_estimated_by_those_of_its_network_and_size(tmp_path, capsys):
    leave_run(tmp_path, "there", {"seed": 1}, [True] * 6, epochs=2, fit_seconds=60.0)
    assert "run      new  about 2.0 minutes" in shown(tmp_path, capsys)  # 30 seconds an epoch, four of them


def test_a_run_that_does_not_know_its_time_estimates_nothing(tmp_path, capsys):
    leave_run(tmp_path, "there", {"seed": 1}, [True] * 6, fit_seconds=None)
    assert "no run alike yet" in shown(tmp_path, capsys)
    assert record.peek(tmp_path / "new") is None
