"""FreD (Shin et al., NeurIPS 2023): MTT, but a few frequencies of each image are learned instead of its pixels."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, parameterisation="frequency")
