"""Experts that the tests of the store write."""

import numpy as np

from attcli.store import experts

EXPERT = {
    "dataset": "digits",
    "classes": ["0", "1"],
    "channels": 1,
    "resolution": 8,
    "value_scale": 0.0625,
    "normaliser": {"kind": "standardise", "eps": 0.0, "sha256": "0" * 64},
    "network": {"arch": "mlp"},
    "layout": [["weight", [50]]],
    "dataset_sha256": "0" * 64,
}


def trajectory(rows: int, size: int = 50) -> experts.Trajectory:
    random = np.random.default_rng(0)
    return experts.Trajectory(
        [random.random(size, dtype=np.float32) for _ in range(rows)], [1.0] * (rows - 1), [50.0] * (rows - 1)
    )
