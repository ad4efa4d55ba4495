"""Dataset distillation by matching training trajectories."""

__version__ = "0.1.0"
