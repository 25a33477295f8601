"""`makemore final-test`: the one look at the test split, for a study's winner.

Each step is durable before the next begins:

1. The claim, a row with unique keys in the study's database, fixes the split, its source and the winner's weights.
2. The test items are read and evaluated, and the result is written to the same database.
3. The result is copied to an MLflow run and to the model registry.

If the command is killed after any step, running it again continues from there, for the same weights.
"""

import json
import sys
from dataclasses import dataclass

from omegaconf import DictConfig

from sweeps.config.messages import one_line
from sweeps.config.names import check_study_name
from sweeps.config.reading import read_node
from sweeps.databases import locked, resolve_url
from sweeps.errors import RequestError, TestSplitAlreadyUsed
from sweeps.look.candidate import check_idle, find_candidate
from sweeps.look.claim import LookConfig, ask, check_earlier, claim_look
from sweeps.look.evaluation import record_result
from sweeps.look.record import RESULT, Looks, Record
from sweeps.look.report import as_text, check_format, draw
from sweeps.tracking.looks import log_look
from sweeps.tracking.registry import register_champion
from sweeps.tracking.store import TrackingStore, open_tracking
from sweeps.trials.confirm import confirm_study_name
from sweeps.trials.seal import CLAIM
from sweeps.trials.trials import Trials, find_trials, open_trials


@dataclass(frozen=True)
class FinalTestConfig:
    """The keys of `makemore final-test`."""

    final_test: LookConfig
    format: str

    def __post_init__(self) -> None:
        check_format(self.format)


def final_test(cfg: DictConfig) -> str:
    """The text that `makemore final-test` prints: the result of the look that it takes.

    Raises:
        RequestError: the look is refused; no test item was read.
        TestSplitAlreadyUsed: the study has looked before. The message is the recorded result.
    """
    config: FinalTestConfig = read_node(FinalTestConfig, cfg, "")
    name = cfg.study.name
    if name is None:
        raise RequestError(
            "study.name is not given; a look is for one study: give study.name=NAME (see makemore compare)"
        )
    check_study_name(str(name))
    url = resolve_url("study.storage", cfg.study.storage, table="studies", must_exist=True)
    store = open_tracking(cfg, create=False)
    trials = open_trials(str(name), url, create=False)
    confirm = find_trials(confirm_study_name(trials.name), url)
    looks = Looks(url)
    if not config.final_test.confirm and not _has(looks, trials.name, CLAIM):
        candidate = find_candidate(store, trials, confirm)
        check_earlier(config.final_test, looks, store, candidate)
        ask(looks, candidate)
    with locked(url, "looks"):  # a second process waits here until the first has ended or died
        return _look(config, looks, store, trials, confirm)


def _look(config: FinalTestConfig, looks: Looks, store: TrackingStore, trials: Trials, confirm: Trials | None) -> str:
    name = trials.name
    new = not _has(looks, name, RESULT)
    if new:
        candidate = find_candidate(store, trials, confirm)
        with trials.alone() as standing:  # no trial can begin between this check and the claim
            check_idle(name, standing)
            claim = claim_look(config.final_test, looks, store, candidate)
        record_result(looks, candidate, claim)
    shown = show(looks, name, config.format)
    try:
        _copy(looks, store, name)
    except Exception as error:  # the look is spent, so its result must be shown whatever happens to the copies
        print(
            f"makemore: the result is recorded in study.storage, but not yet copied to MLflow ({one_line(error)}); "
            "run the same command again to add the copies",
            file=sys.stderr,
        )
    if new:
        return shown
    raise TestSplitAlreadyUsed(shown)


def _has(looks: Looks, study: str, kind: str) -> bool:
    return any(record.kind == kind for record in looks.records(study))


def show(looks: Looks, study: str, form: str) -> str:
    """The recorded look of a study, as Markdown (form "text") or JSON (form "json")."""
    claim, result = look_of(looks, study)
    if form == "json":
        return json.dumps({**result.content, **claim.content}, indent=2)
    return as_text(claim.content, result.content, looks.claims_of(claim.content["source_digest"]))


def look_of(looks: Looks, study: str) -> tuple[Record, Record]:
    """The claim and the result of a study that has both of them."""
    records = looks.records(study)
    return (
        next(record for record in records if record.kind == CLAIM),
        next(record for record in records if record.kind == RESULT),
    )


def _copy(looks: Looks, store: TrackingStore, study: str) -> None:
    """Copy the result to MLflow: a run under the study, and the winner in the registry. Existing copies are kept."""
    claim, result = look_of(looks, study)
    text = as_text(claim.content, result.content, looks.claims_of(claim.content["source_digest"]))
    log_look(store, claim.content, result.content, {"report.md": text}, draw(claim.content, result.content))
    register_champion(store, claim.content, result.content)
