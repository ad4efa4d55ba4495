"""All training images: what the set stands for. Networks are trained on them for `evaluate.whole_epochs`."""

from attcli.baselines import Baseline

BASELINE = Baseline(None)
