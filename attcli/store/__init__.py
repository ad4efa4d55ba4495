"""Artefacts on disk: HDF5 files that are complete or absent, say what they are, and are checked when read."""
