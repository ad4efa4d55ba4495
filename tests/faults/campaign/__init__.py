"""The campaign behind docs/reliability.md: every fault, many times, at places that a seed decides.

It stands with the tests, whose machinery it uses; `make test` runs a small part of it, `make faults` all of it.
"""
