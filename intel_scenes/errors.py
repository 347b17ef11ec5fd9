"""The error that a user can cause and mend."""


class UserError(Exception):
    """Something a user can mend: one sentence that says what is wrong, where, and what to do.

    Commands show the sentence without a traceback and exit with status 1.
    """
