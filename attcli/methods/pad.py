"""PAD (Li et al., arXiv 2408.03360): DATM without the numbers of the first layers, and experts on a curriculum."""

from dataclasses import replace

from attcli.methods import datm

METHOD = replace(datm.METHOD, also={"distill.compare": "deep", "buffer.curriculum": "easy-first"})
