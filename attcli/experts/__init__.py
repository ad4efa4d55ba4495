"""How an expert is trained: one file a trainer, found by its file's name."""
