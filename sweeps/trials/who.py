"""Who does something that is recorded: the user and the machine."""

import getpass
import os
import socket


def user_at_host() -> str:
    """The user and the host, as user@host; the user's number where it has no name, as in some containers."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
