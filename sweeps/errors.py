"""What a user is told in one line."""


class RequestError(Exception):
    """The request is wrong (exit code 2): the message names key, value, limit and cure. Nothing was started."""


class TestSplitAlreadyUsed(Exception):
    """The test split has been looked at for this study (exit code 3); the recorded result has been printed."""


class ChainBroken(Exception):
    """The record of looks was altered (exit code 1): the message is the list, with what is broken."""


class AllTrialsFailed(Exception):
    """No trial of the study finished (exit code 1)."""
