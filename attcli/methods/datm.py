"""DATM (Guo et al., ICLR 2024): spans of the difficulty that the number of images bears, and learned soft labels.

The range of start epochs grows while distilling, images start from ones that experts get right, labels are learned as
logits, and an iteration whose loss is above a threshold moves nothing. Its experts are FTD's.
"""

from dataclasses import replace

from attcli.methods import ftd

METHOD = replace(ftd.METHOD, window="expanding", labels="learned", init="correct", max_loss=1.0)
