"""ATT (ECCV 2024): MTT, but the student's step nearest to the target is matched, not always the last."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, select="nearest")
