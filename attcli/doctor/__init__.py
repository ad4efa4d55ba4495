"""What a run will meet on this machine: one finding for each thing that a first day's questions are about."""
