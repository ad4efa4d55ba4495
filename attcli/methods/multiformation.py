"""Multi-formation (IDC, Kim et al., ICML 2022): an image holds several smaller ones; joined by + to others."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, parameterisation="multiformation")
