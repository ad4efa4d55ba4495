"""Real images: where they come from, how they are normalised, how batches of them are drawn."""
