"""MCT (Zhong et al., CVPR 2025): MTT on experts that are kept as a few networks and the way between them.

A start epoch is any real number: the student starts, and has to arrive, somewhere on the straight lines between the
networks that are kept.
"""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, also={"buffer.waypoints": 4, "distill.start_epochs": "real"})
