"""Records of runs: what was distilled, from what, at what cost, with which scores; and what was published beside it.

model.py says what a record holds, making.py makes one from a results folder, files.py reads and writes them,
listing.py makes the rows of the table. published.py knows the published values.
"""
