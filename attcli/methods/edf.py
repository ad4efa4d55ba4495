"""EDF (Wang et al., CVPR 2025): DATM on the numbers that are far from the expert's, and on what experts look at."""

from dataclasses import replace

from attcli.methods import datm

METHOD = replace(datm.METHOD, also={"distill.compare": "far", "distill.emphasis": "cam"})
