"""What is said of an objective's loss."""

from attcli import objectives, registry


def test_every_objective_says_what_it_minimises() -> None:
    losses = {name: objectives.loss(name) for name in registry.names("objective")}
    assert {"trajectory", "real-loss", "gradient", "distribution"} <= losses.keys()
    assert "loss" not in losses.values()
    assert objectives.loss("of another package") == "loss"
