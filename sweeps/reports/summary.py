"""What is said of a study: in a terminal at its end, and as the notes of its run in MLflow."""

import pandas as pd

from sweeps.reports.insight import Insight
from sweeps.reports.leaderboard import Study, leaderboard, to_text
from sweeps.search.space import Space

_TOP = 5


def as_text(study: Study, insight: Insight, space: Space) -> str:
    """The end of a sweep: the best five, what fresh seeds say, who won by how much, what mattered, what next."""
    winner = study.winner
    assert winner is not None  # whoever calls has seen a complete trial
    complete = leaderboard(study.trials[study.trials["state"] == "COMPLETE"])
    figures = ["trial", "best_dev_loss", "parameters", "train_seconds"]
    columns = [*figures, *(key for key in space.distributions if key in complete)]
    lines = [
        f"\nstudy {study.name}: {_counts(study)}; the best {min(_TOP, len(complete))} by dev loss (nats per "
        "character):\n",
        to_text(complete[columns].head(_TOP)),
        "",
    ]
    if study.confirmed.empty:
        lead = complete["best_dev_loss"].diff().iloc[1:2]
        lines += [f"winner: trial {winner.trial}, dev loss {winner.best_dev_loss:.4f}"]
        lines[-1] += "".join(f", {value:.4f} below the next" for value in lead) + " (not confirmed with fresh seeds)"
    else:
        best = study.confirmed.iloc[0]
        lines += [
            "trained again with fresh seeds; too_good: by how much the search's figure flatters:\n",
            str(study.confirmed.to_string(index=False, float_format="{:.4f}".format, na_rep="-")),
            "",
            f"winner: trial {winner.trial}, mean dev loss {best['mean']:.4f} (the search said {best.dev_loss:.4f})",
        ]
    lines.append(f"        run {winner.run_id}, config {winner.config_hash}, weights {str(winner.weights_digest)[:12]}")
    lines += [f"        {line}" for line in _lessons(study, insight)]
    return "\n".join(
        [
            *lines,
            "",
            "next:   " + f"makemore compare study.name={study.name}",
            *(f"        {line}" for line in _baselines(study, insight)),
            f"        makemore sample study.name={study.name} n=20",
            "        makemore ui",
        ]
    )


def as_notes(study: Study, insight: Insight | None, space: Space, budget: str) -> str:
    """The same in Markdown, with what was searched; also while the study runs, when nothing may be complete yet."""
    winner = study.winner
    lines = [f"**{_counts(study)}** ({budget}).", ""]
    if winner is None or insight is None:
        lines.append("No trial is complete yet.")
    else:
        lines.append(f"Winner{'' if study.confirmed.empty else ', confirmed with fresh seeds'}: {_figure(study)}")
        lines += [f"- {line}" for line in _lessons(study, insight)]
        lines += [f"- its run, {winner.run_id}: {winner['diagnosis']}"] if pd.notna(winner.get("diagnosis")) else []
    lines += ["", "| searched | over | of the winner | importance |", "|---|---|---|---|"]
    for key in space.distributions:
        value = insight.setting.get(key, "-") if insight else "-"
        value = f"{value:.3g}" if isinstance(value, float) else value
        share = f"{insight.importances[key]:.0%}" if insight and key in insight.importances else "-"
        lines.append(f"| {key} | {space.words(key)} | {value} | {share} |")
    lines += ["", "Pictures: `pictures.html` (interactive) and `pictures/`; all trials: `leaderboard.json`."]
    return "\n".join(lines)


def _baselines(study: Study, insight: Insight) -> list[str]:
    """The command that sets the best trials against the setting that was tried first."""
    first = [one.trial for one in insight.tried_first[:1]]
    return [f"makemore compare study.name={study.name} top=5 baseline={trial}" for trial in first]


def _counts(study: Study) -> str:
    counts = study.trials["state"].value_counts()
    return ", ".join(f"{count} {str(state).lower()}" for state, count in counts.items()) or "no trials yet"


def _figure(study: Study) -> str:
    winner = study.winner
    assert winner is not None
    if study.confirmed.empty:
        return f"trial {winner.trial}, dev loss {winner.best_dev_loss:.4f}"
    best = study.confirmed.iloc[0]
    mean = f"mean dev loss {best['mean']:.4f} (sd {best.sd:.4f}; the search said {best.dev_loss:.4f})"
    return f"trial {winner.trial}, {mean}"


def _lessons(study: Study, insight: Insight) -> list[str]:
    """What the winner gained, what mattered, and where the space is too narrow; a line each."""
    winner = study.winner
    assert winner is not None
    means = dict(zip(study.confirmed["trial"], study.confirmed["mean"], strict=True))
    loss = means.get(winner.trial, winner.best_dev_loss)
    lines = []
    for one in insight.tried_first:
        if one.trial != winner.trial:
            theirs = means.get(one.trial, one.dev_loss)
            of = "" if one.trial in means or not means else ", the search's figure for one seed"
            lines.append(f"{theirs - loss:.4f} below trial {one.trial}, {one.name} ({theirs:.4f}{of})")
    if insight.importances:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in list(insight.importances.items())[:3])
        complete = (study.trials["state"] == "COMPLETE").sum()
        lines.append(f"what mattered most among the {complete} complete trials: {shares}")
    return lines + [f"{edge}: widen the space" for edge in insight.edges]
