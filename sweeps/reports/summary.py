"""A study in words: what the terminal shows at its end, and the notes of its run in MLflow."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.config.command_line import command_line
from sweeps.config.terminal import wrap
from sweeps.reports.insight import Importance, Insight
from sweeps.reports.leaderboard import leaderboard, outcome
from sweeps.reports.selection import Selection
from sweeps.reports.settings import settings
from sweeps.reports.studies import StudyResults
from sweeps.reports.tables import confirmations_table, leaderboard_table, settings_table, to_text
from sweeps.search.space import Space
from sweeps.tracking.queries import RunRecord
from sweeps.trials.winner import nan_last

_TOP = 5
_MOST = 20
_INDENT = " " * 8


@dataclass(frozen=True)
class Asked:
    """What the command that runs a study asked for, as far as the summary repeats it."""

    question: str | None = None  # study.question
    unit: str = "nats per character"  # of the task's losses
    samples: bool = True  # whether the task can draw new items
    records: Sequence[str] = ()  # the overrides that say where the records are


def as_text(
    study: StudyResults,
    winner: RunRecord,
    insight: Insight,
    space: Space,
    asked: Asked,
    wider: Sequence[str] = (),
    seeds: Sequence[RunRecord] = (),
    selection: Selection | None = None,
) -> str:
    """The end of a sweep: the best settings, what fresh seeds say, who won, what mattered, what to do next.

    Args:
        wider: the words of the command that goes on in a wider space, if one is called for.
        seeds: the runs of single seeds, if each trial has several.
        selection: what the dev loss is without the luck of having been chosen, if that is known.
    """
    lines = ["", *([wrap(f"question: {asked.question}"), ""] if asked.question else [])]
    lines += [_table(study, space, asked, seeds), ""]
    if study.confirmations:
        best = study.confirmations[0]
        lines += [
            wrap("trained again with fresh seeds; too_good: by how much the search's figure flatters:"),
            "",
            confirmations_table(study.confirmations).to_string(index=False, float_format="{:.4f}".format, na_rep="-"),
            "",
            f"winner: trial {winner.trial}, mean dev loss {best.mean:.4f} (the search said {best.dev_loss:.4f})",
        ]
    else:
        losses = [run.best_dev_loss for run in leaderboard(study.complete).runs[:2]]
        lead = f", {losses[1] - losses[0]:.4f} below the next" if len(losses) == 2 else ""
        loss = f"dev loss {winner.best_dev_loss:.4f}{lead}"
        lines.append(wrap(f"winner: trial {winner.trial}, {loss} (not confirmed with fresh seeds)"))
    config_hash, weights_digest = (str(winner.tags.get(key)) for key in ("config_hash", "weights_digest"))
    identity = f"run {winner.run_id}, config {config_hash}, weights {weights_digest[:12]}"
    corrected = [selection.in_words()] if selection else []
    lines += [wrap(line, _INDENT) for line in [identity, *corrected, *_lessons(study, winner, insight)]]
    first, *more = _next(study, insight, asked, wider, bool(seeds))
    return "\n".join([*lines, "", f"next:   {first}", *(f"{_INDENT}{line}" for line in more)])


def _table(study: StudyResults, space: Space, asked: Asked, seeds: Sequence[RunRecord]) -> str:
    """The best settings of a study; all of them, where the study asks a question."""
    if seeds:
        table = settings_table(settings([*seeds, *study.confirming]))
        figures = ["trials", "mean_dev_loss", "sd", "mean_low", "mean_high", "parameters", "train_seconds"]
        what = "by mean dev loss over seeds, with the ends of its 95 % interval"
    else:
        table = leaderboard_table(leaderboard(study.complete))
        figures = ["trial", "best_dev_loss", "parameters", "train_seconds"]
        what = "by dev loss"
    shown = table.head(_MOST if asked.question else _TOP)
    title = wrap(f"study {study.name}: {counts_in_words(study)}; the best {len(shown)} {what} ({asked.unit}):")
    columns = [*figures, *(key for key in space.distributions if key in shown)]
    cure = f"makemore compare study.name={study.name} format=csv has all"
    return "\n".join([title, "", to_text(shown[columns], cure)])


def _next(study: StudyResults, insight: Insight, asked: Asked, wider: Sequence[str], by_setting: bool) -> list[str]:
    """Commands that go on from here, for a shell."""
    this = f"study.name={study.name}"
    by = ["by=setting"] if by_setting else []
    commands = [["compare", this, *by]]
    if by_setting:  # is the best setting better than the next one, and how sure is that?
        commands = [["compare", this, *by, f"baseline={run.trial}"] for run in leaderboard(study.complete).runs[1:2]]
        commands = commands or [["compare", this, *by]]
    # The best trials beside the setting that was tried first.
    commands += [["compare", this, *by, "top=5", f"baseline={tried.trial}"] for tried in insight.tried_first[:1]]
    commands += [["sample", this, "n=20"]] if asked.samples else []
    lines = [command_line(*command, *asked.records) for command in [*commands, ["ui"]]]
    return [*lines[:-1], *([command_line(*wider)] if wider else []), lines[-1]]


def as_notes(
    study: StudyResults,
    insight: Insight | None,
    space: Space,
    budget: str,
    winner_page: str,
    question: str | None = None,
) -> str:
    """The same in Markdown, with what was searched; also while the study runs, when no trial may be complete yet.

    Args:
        winner_page: the address of the winner's run.
        question: that the study is to answer.
    """
    winner = study.winner
    lines = [question, ""] if question else []
    lines += [f"**{counts_in_words(study)}** ({budget}).", ""]
    if winner is None or insight is None:
        lines.append("No trial is complete yet.")
    else:
        confirmed = ", confirmed with fresh seeds" if study.confirmations else ""
        lines.append(f"Winner{confirmed}: {winner_in_words(study, winner)}")
        lines += [f"- {line}" for line in _lessons(study, winner, insight)]
        diagnosis = f": {winner.tags['diagnosis']}" if "diagnosis" in winner.tags else ""
        lines.append(f"- its run, with samples, weights and pictures, is [{winner.run_id}]({winner_page}){diagnosis}")
    lines += ["", "| searched | over | of the winner | importance (95 % interval) |", "|---|---|---|---|"]
    for key in space.distributions:
        value = insight.setting.get(key, "-") if insight else "-"
        value = f"{value:.3g}" if isinstance(value, float) else value
        share = _share(insight.importances[key]) if insight and key in insight.importances else "-"
        lines.append(f"| {key} | {space.words(key)} | {value} | {share} |")
    lines += ["", "Pictures: `pictures.html` (interactive) and `pictures/`; all trials: `leaderboard.json`."]
    return "\n".join(lines)


def counts_in_words(study: StudyResults) -> str:
    """How many trials ended in which way, the most frequent first."""
    counts = Counter(outcome(run) for run in study.trials).most_common()
    return (
        ", ".join(f"{count} {'failed' if how == 'FAIL' else how.lower()}" for how, count in counts) or "no trials yet"
    )


def winner_in_words(study: StudyResults, winner: RunRecord) -> str:
    """The trial that won, and its dev loss."""
    if not study.confirmations:
        return f"trial {winner.trial}, dev loss {winner.best_dev_loss:.4f}"
    best = study.confirmations[0]
    mean = f"mean dev loss {best.mean:.4f} (sd {best.sd:.4f}; the search said {best.dev_loss:.4f})"
    return f"trial {winner.trial}, {mean}"


def _lessons(study: StudyResults, winner: RunRecord, insight: Insight) -> list[str]:
    """Who chose the winner, what it gained, what mattered, and where the space is too narrow; one line each."""
    means = {confirmation.trial: confirmation.mean for confirmation in study.confirmations}
    loss = means.get(insight.winner, winner.best_dev_loss)
    lines = _who_chose(study, insight)
    for trial, name, search_loss in _rivals(study, insight):
        their_loss = means.get(trial, search_loss)
        which = "" if trial in means or not means else ", the search's figure for one seed"
        side = "below" if loss <= their_loss else "above"
        lines.append(f"{abs(their_loss - loss):.4f} {side} trial {trial}, {name} ({their_loss:.4f}{which})")
    if insight.importances:
        told = [f"{key} {_share(row)}" for key, row in insight.importances.items() if row.told]
        what = f"mattered most: {', '.join(told)}" if told else "what mattered most cannot be told yet"
        lines.append(f"{what} (from {insight.complete} complete trials)")
    return lines + [f"{widening.reason}: widen it" for widening in insight.widenings]


def _share(importance: Importance) -> str:
    return f"{importance.share:.0%} ({importance.low:.0%} to {importance.high:.0%})"


def _who_chose(study: StudyResults, insight: Insight) -> list[str]:
    """Whether the search drew the winner, or it is a setting that was given."""
    if not insight.tried_first:
        return []
    if all(_was_given(run) for run in study.trials):
        return ["nothing was searched: every trial is a setting that was given; a higher study.n_trials searches"]
    given = [tried.name for tried in insight.tried_first if tried.trial == insight.winner]
    if given:
        return [f"the winner was given in space.warm_start ({given[0]}); the search drew nothing better"]
    return ["the search drew the winner, which was not given in space.warm_start"]


def _rivals(study: StudyResults, insight: Insight) -> list[tuple[int, str, float]]:
    """What the winner is compared with: given settings and, if it was given itself, the best that the search drew."""
    rivals = [(tried.trial, tried.name, tried.dev_loss) for tried in insight.tried_first]
    if insight.winner in [tried.trial for tried in insight.tried_first]:
        drawn = [run for run in leaderboard(study.complete).runs if not _was_given(run)]
        rivals += [(run.trial, "the search's best", run.best_dev_loss) for run in drawn[:1] if run.trial is not None]
    return sorted((rival for rival in rivals if rival[0] != insight.winner), key=lambda rival: nan_last(rival[2]))


def _was_given(run: RunRecord) -> bool:
    return "warm_start" in run.tags
