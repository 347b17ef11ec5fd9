import re
from pathlib import Path

import intel_scenes
from intel_scenes.errors import did_you_mean, percentage


def test_words_spelt_alike_are_named_and_others_are_not():
    assert did_you_mean("adamv", ["sgd", "adamw"]) == " (did you mean adamw?)"
    assert did_you_mean("adamv", ["sgd", "rmsprop"]) == ""


def test_a_percentage_has_a_blank_before_its_sign_in_all_texts():
    assert [percentage(0.924), percentage(0.9249, 2), percentage(1, 0), percentage(None)] == [
        *("92.4 %", "92.49 %", "100 %", "-")
    ]
    modules = Path(intel_scenes.__file__).parent.rglob("*.py")  # `:.1%` of a format writes no blank
    assert [path.name for path in modules if re.search(r"\.\d%}", path.read_text())] == []
