"""How a set is scored: the literature's evaluation protocol, and the baseline of random real images."""
