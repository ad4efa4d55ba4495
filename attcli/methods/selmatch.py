"""SelMatch (Lee and Chung, ICML 2024): MTT from real images of a chosen difficulty, of which only a part is distilled.

`distill.distilled_share` is that part, and `distill.rank_offset` the difficulty; both depend on the size of the set.
"""

from dataclasses import replace

from attcli.methods import mtt

METHOD = replace(mtt.METHOD, init="ranked")
