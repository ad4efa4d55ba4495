"""The stages: the only code that loops, logs, saves and resumes. One file, one subcommand, one DVC stage each."""
