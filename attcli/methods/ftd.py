"""FTD (Du et al., CVPR 2023): MTT with experts of flat trajectories; the images' moving average is what is scored."""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, trainer="ftd")
