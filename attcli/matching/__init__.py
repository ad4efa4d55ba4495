"""The mathematics of trajectory matching: pure functions of tensors and numbers.

Nothing here reads settings, touches files, logs, or draws random numbers.
"""
