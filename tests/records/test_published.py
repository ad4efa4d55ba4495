"""Published values: complete, and those of the recipes."""

from attcli.records.published import all_values, beside, find
from attcli.settings.recipes import all_recipes

SETS = ("cifar10", "cifar100", "tinyimagenet")


def test_the_recipes_say_the_same() -> None:
    compared = 0
    for recipe in all_recipes().values():
        of = recipe.experiment
        if recipe.published and of.dataset in SETS and of.ipc in (1, 10, 50):
            value = find(of.method, of.dataset, of.ipc)
            assert value is not None, recipe.name
            assert (value.accuracy, value.sd) == (recipe.published["accuracy"], recipe.published["sd"]), recipe.name
            compared += 1
    assert compared >= 30


def test_every_value_says_how_it_was_measured_and_where_it_was_read() -> None:
    values = list(all_values())
    trajectories = {"att", "mtt", "ftd", "tesla", "datm", "pad", "edf", "mct", "fred", "ptq-dc"}
    others = {"idc", "rat-bptt", "dd", "ld", "dc", "dsa", "dm", "cafe"}
    assert {value.method for value in values} == trajectories | others
    keys = [(value.method, value.dataset, value.ipc) for value in values]
    assert len(set(keys)) == len(keys)
    assert all(value.protocol and value.paper and value.source for value in values)


def test_joined_methods_are_compared_with_the_last_one_that_has_a_value() -> None:
    value = find("att+datm", "cifar10", 1)
    assert value is not None
    assert (value.method, value.accuracy) == ("datm", 46.9)
    value = find("datm+mine", "cifar10", 1)
    assert value is not None
    assert value.method == "datm"
    assert find("att", "digits", 1) is None


def test_parameterised_sets_are_compared_with_such_sets_too() -> None:
    values = beside("att", "frequency", "float32", "cifar10", 1)
    assert [(value.method, value.accuracy) for value in values] == [("att", 48.3), ("fred", 60.6)]
    assert [value.method for value in beside("att", "multiformation", "float32", "cifar100", 1)] == ["att"]
    codes = beside("att", "multiformation", "codes", "cifar10", 1)
    assert [(value.method, value.accuracy) for value in codes] == [("att", 48.3), ("idc", 50.0), ("ptq-dc", 68.9)]
    for method in ("idc", "idc+uint8"):
        assert [value.method for value in beside(method, "multiformation", "float32", "cifar10", 10)] == ["idc"]
    assert [value.method for value in beside("mine", "pixels", "float32", "cifar10", 1)] == []
