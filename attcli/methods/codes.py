"""A few bits per number, on grids that patches share, rounded while distilling; joined by + to others.

After PTQ-DC (AAAI 2026), which rounds a finished set.
"""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, storage="codes")
