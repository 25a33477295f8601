"""What a user is told in one line."""

import re

_PASSWORDS = (
    re.compile(r"(:/{1,2}[^\s:/@]*:)[^\s@]+(?=@)"),  # scheme://user:password@host; a path has lost a slash
    re.compile(r"([?&]\w*password=)[^\s&]+?(?=['\"]?(?:[\s&]|$))"),  # ?user=me&password=secret
)


def hide_passwords(text: str) -> str:
    """A text as it may be shown and stored: without the passwords of URLs in it."""
    for password in _PASSWORDS:
        text = password.sub(r"\1***", text)
    return text


class RequestError(Exception):
    """The request is wrong (exit code 2): the message names key, value, limit and cure. Nothing was started."""

    def __init__(self, message: str) -> None:
        super().__init__("\\n".join(message.splitlines()))  # one line, also where a value has several


class TestSplitAlreadyUsed(Exception):
    """The test split has been looked at for this study (exit code 3); the recorded result has been printed."""


class ChainBroken(Exception):
    """The record of looks was altered (exit code 1): the message is the list, with what is broken."""


class StudyStopped(Exception):
    """Somebody stopped the study with `makemore stop` (exit code 130)."""


class NotRecorded(Exception):
    """Trials could not be recorded, so their worker has ended (exit code 1). They are tried again."""


class AllTrialsFailed(Exception):
    """No trial of the study finished (exit code 1)."""
