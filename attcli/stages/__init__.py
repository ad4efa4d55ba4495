"""The stages: the only code that loops, logs, saves and resumes. One file, one subcommand, one DVC stage each."""

from loguru import logger

logger.disable("attcli")  # a library is silent; the command line enables the log
