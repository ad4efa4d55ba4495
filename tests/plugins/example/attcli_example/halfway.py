"""A method: ATT with experts of this package."""

from dataclasses import replace

from attcli.methods import att

METHOD = replace(att.METHOD, trainer="noisy")
