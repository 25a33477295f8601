"""The request to stop a study, in the study's database, where all of its workers see it, wherever they run.

Nobody takes the request back. A sweep that starts later has seen it before, and goes on; one that ran when the
request was made has not, and stops.
"""

import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime

from sweeps.trials.storage import AWAY
from sweeps.trials.trials import Trials
from sweeps.trials.who import user_at_host

_STOP = "stop"  # the attribute of a study
_LOOK_SECONDS = 1.0  # between two looks while a trial trains


@dataclass(frozen=True)
class StopRequest:
    """Who asked a study's workers to end, and when."""

    id: str
    who: str
    when: str

    def __str__(self) -> str:
        return f"{self.who} at {self.when}"


def ask_to_stop(trials: Trials) -> StopRequest:
    """Ask all workers of a study to end."""
    when = datetime.now().astimezone().isoformat(timespec="seconds")
    request = StopRequest(uuid.uuid4().hex, user_at_host(), when)
    trials.study.set_user_attr(_STOP, asdict(request))
    return request


def read_stop(trials: Trials) -> StopRequest | None:
    """The last request to stop a study; None if there was none."""
    request = trials.study.user_attrs.get(_STOP)
    return StopRequest(**request) if request else None


class StopWatch:
    """Whether a study was asked to stop since a sweep of it began."""

    def __init__(self, trials: Trials, seen: str | None) -> None:
        """Prepare to look.

        Args:
            seen: the id of the last request before the sweep began.
        """
        self._trials, self._seen = trials, seen
        self._due = 0.0
        self._request: StopRequest | None = None

    def request(self, at_once: bool = False) -> StopRequest | None:
        """The request, if there is one; the database is asked once a second, and otherwise where `at_once` says so."""
        now = time.monotonic()
        if self._request is None and (at_once or now >= self._due):
            with suppress(*AWAY):  # the next look will do
                request = read_stop(self._trials)
                if request is not None and request.id != self._seen:
                    self._request = request
            self._due = now + _LOOK_SECONDS
        return self._request
