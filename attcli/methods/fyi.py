"""FYI (Son et al., ECCV 2024): MTT whose students see each image and its mirror image; joined by + to others."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, also={"distill.mirror": "pairs"})
