"""One choice of each kind."""
