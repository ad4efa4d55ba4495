"""A byte per number, rounded while distilling: four times the images for the same bytes; joined by + to others."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, storage="uint8")
