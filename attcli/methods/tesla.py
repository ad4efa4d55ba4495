"""TESLA (Cui et al., ICML 2023): MTT by a gradient that holds the adjoint variable fixed.

Its teacher labels are a choice of their own, as in its ImageNet-1K runs: `distill.labels=teacher`.
"""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, engine="tesla")
