"""hooks.on_end: a command or a webhook that is called once when a study ends, however many processes worked on it."""

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from urllib.parse import urlsplit

from omegaconf import DictConfig
from optuna.trial import TrialState

from makemore.limits import LimitError
from sweeps.config.messages import one_line
from sweeps.config.reading import build, container
from sweeps.errors import StudyStopped
from sweeps.study.plan import Plan
from sweeps.trials.confirm import confirm_study_name, study_winner
from sweeps.trials.trials import Trials

_TOLD = "told_end"  # the attribute of a study that names the end that was told last
_COMMAND_SECONDS = 60.0
_WEBHOOK_SECONDS = 10.0


@dataclass(frozen=True)
class HooksConfig:
    """The keys of `hooks`."""

    on_end: str | list[str] | None

    def __post_init__(self) -> None:
        if self.on_end is None:
            return
        wanted = "null, a command, or a webhook such as https://host/path"
        try:
            words = self.words
        except ValueError as error:  # a quote is not closed
            raise LimitError("on_end", self.on_end, f"{wanted} ({error})") from None
        if not words or not words[0]:
            raise LimitError("on_end", repr(self.on_end), wanted)
        if self.url is not None:
            if not _host(self.url):
                raise LimitError("on_end", self.url, f"{wanted}; this URL has no host")
        elif shutil.which(words[0]) is None:
            raise LimitError("on_end", self.on_end, f"{wanted}; there is no command {words[0]} here")

    @property
    def url(self) -> str | None:
        """The webhook; None where there is none."""
        is_url = isinstance(self.on_end, str) and self.on_end.startswith(("http://", "https://"))
        return str(self.on_end) if is_url else None

    @property
    def words(self) -> list[str]:
        """The command and its arguments."""
        return shlex.split(self.on_end) if isinstance(self.on_end, str) else list(self.on_end or [])


@dataclass(frozen=True)
class StudyEnd:
    """What a hook is told: as JSON, or as environment variables MAKEMORE_STUDY, MAKEMORE_STATE and so on."""

    study: str
    state: str  # finished, stopped or failed
    trials: int  # complete and pruned
    winner: int | None  # the number of the trial
    dev_loss: float | None  # of the winner, in the search
    confirmed_dev_loss: float | None  # its mean with fresh seeds
    run_id: str | None  # of the winner, in MLflow

    def environment(self) -> dict[str, str]:
        """The environment variables; what is unknown is empty."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f"MAKEMORE_{name.upper()}": "" if value is None else str(value) for name, value in values.items()}


def read_hooks(cfg: DictConfig) -> HooksConfig:
    """The hooks of a config.

    Raises:
        RequestError: a hook is neither a command that is here nor a webhook.
    """
    tree = container(cfg, "hooks")
    if isinstance(tree.get("on_end"), list):  # Hydra reads some words of a command as numbers
        words = tree["on_end"]
        tree["on_end"] = [str(word) if isinstance(word, int | float) else word for word in words]
    hooks: HooksConfig = build(HooksConfig, "hooks", tree)
    return hooks


@contextmanager
def told_at_end(hooks: HooksConfig, plan: Plan, trials: Trials) -> Iterator[None]:
    """While inside, a study runs; when it has ended, its hook is called. A study that Ctrl-C ended goes on."""
    try:
        yield
    except StudyStopped:
        _tell(hooks, plan, trials, "stopped")
        raise
    except Exception:
        _tell(hooks, plan, trials, "failed")
        raise
    _tell(hooks, plan, trials, "finished")


def _tell(hooks: HooksConfig, plan: Plan, trials: Trials, state: str) -> None:
    """Call the hook, unless another process still works on the study, or has called it for this end."""
    if hooks.on_end is None:
        return
    try:
        end = _claim(plan, trials, state)
        if end is not None:
            _post(hooks.url, end) if hooks.url is not None else _run(hooks.words, end)
    except Exception as error:  # the study has ended, and is recorded: a hook changes nothing about that
        message = one_line(error)
        if hooks.url is not None:  # its path may be a secret
            message = f"{_host(hooks.url)} did not take the message: {message}"
        print(f"makemore: hooks.on_end failed: {message}", file=sys.stderr)


def _claim(plan: Plan, trials: Trials, state: str) -> StudyEnd | None:
    """What is to be told; None where the study goes on elsewhere, or this end was told before."""
    confirm = Trials(plan.storage, confirm_study_name(plan.name)) if plan.confirm.top else None
    with trials.alone() as search:
        confirming = confirm.standing() if confirm else None
        standings = [search, *([confirming] if confirming else [])]
        if any(standing.running for standing in standings):
            return None
        started = sum(len(standing.trials) - standing.count(TrialState.WAITING) for standing in standings)
        this = f"{state} after {started} trials"
        if trials.study.user_attrs.get(_TOLD) == this:
            return None
        trials.study.set_user_attr(_TOLD, this)
    winner, confirmations = study_winner(search, confirming, plan.confirm)
    return StudyEnd(
        study=plan.name,
        state=state,
        trials=search.finished,
        winner=winner.number if winner else None,
        dev_loss=winner.dev_loss if winner else None,
        confirmed_dev_loss=confirmations[0].mean if confirmations and math.isfinite(confirmations[0].mean) else None,
        run_id=search.trials[winner.number].user_attrs.get("run_id") if winner else None,
    )


def _run(words: list[str], end: StudyEnd) -> None:
    """Run a command without a shell, with the end in its environment."""
    process = subprocess.Popen(
        words,
        env={**os.environ, **end.environment()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=_COMMAND_SECONDS)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the command and what it has started
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise TimeoutError(f"{words[0]} did not end within {_COMMAND_SECONDS:.0f} seconds") from None
        raise
    if process.returncode:
        said = output.decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(
            f"{words[0]} ended with exit code {process.returncode}" + (f" ({said[-1][:200]})" if said else "")
        )


def _post(url: str, end: StudyEnd) -> None:
    """Send the end to a webhook, as JSON."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(asdict(end)).encode(), headers, method="POST")
    urllib.request.urlopen(request, timeout=_WEBHOOK_SECONDS).close()


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
