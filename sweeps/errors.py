"""What a user is told in one line."""


class RequestError(Exception):
    """The request is wrong (exit code 2): the message names key, value, limit and cure. Nothing was started."""


class AllTrialsFailed(Exception):
    """No trial of the study finished (exit code 1)."""
