"""Cases of what strangers may send, by hypothesis: settings, params files, variables, artefacts, other programs' files.

Every case has to end in one of two ways, within bounds of time and memory: it is accepted, or it is refused in one
printable line. `python -m tests.fuzz` runs many; a test runs a few of each kind.
"""
