from intel_scenes.errors import did_you_mean


def test_words_spelt_alike_are_named_and_others_are_not():
    assert did_you_mean("adamv", ["sgd", "adamw"]) == " (did you mean adamw?)"
    assert did_you_mean("adamv", ["sgd", "rmsprop"]) == ""
