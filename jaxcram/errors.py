"""The one exception for mistakes of the person at the keyboard."""


class UserError(Exception):
    """Bad input: `str(error)` is one line that names the thing, its value and the remedy.

    Command lines print that line and exit with code 2; nobody sees a stack trace for it.
    """
