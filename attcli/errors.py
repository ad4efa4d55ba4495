"""What is the user's to mend."""


class UserError(Exception):
    """One line that says what is wrong and what to do about it; the command line turns it into exit code 2."""


class DamagedError(UserError):
    """A file that is not what was once written; what can be made again is then made again."""


class MissingError(UserError):
    """Input files that are not where they were looked for."""


class DivergedError(UserError):
    """A training that left the finite numbers; its learning rate is the one to mend."""
