"""The pictures of a study: as one interactive page (plotly), and each as a PNG file (Matplotlib)."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna
import optuna.visualization as interactive
import optuna.visualization.matplotlib as still
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from sweeps.reports import pictures
from sweeps.reports.insight import Importance
from sweeps.reports.leaderboard import data_in_words, loss_label
from sweeps.reports.studies import StudyResults
from sweeps.reports.summary import counts_in_words, winner_in_words
from sweeps.reports.tables import runs_table, short_names
from sweeps.reports.tuning_curve import independent_losses, tuning_curve
from sweeps.tracking.queries import Curve, RunRecord
from sweeps.trials.attributes import SEARCHED_WITH
from sweeps.trials.standing import Standing

_TARGET = "dev loss"
_CURVES = 150  # the most curves of complete trials, and of pruned ones, that can be told apart
_SLICE_PIXELS = 180  # the least width of a picture of one hyperparameter
_FIRST, _LAST = "tab:blue", "silver"


class StudyPictures:
    """Pictures of a study with at least two complete trials.

    Args:
        study: the study in Optuna.
        results: the same study in MLflow.
        importances: by hyperparameter, the largest first; may be empty.
    """

    def __init__(self, study: optuna.Study, results: StudyResults, importances: Mapping[str, Importance]) -> None:
        self._study, self._results = study, results
        standing = Standing(study.get_trials(deepcopy=False))
        self._trials, self._ranking = standing.own, standing.ranking
        complete = [trial for trial in self._trials if trial.state == TrialState.COMPLETE]
        params = dict.fromkeys(key for trial in complete for key in trial.params)
        # Pictures of a parameter that never varied say nothing.
        self._params = [key for key in params if len({trial.params.get(key) for trial in complete}) > 1]
        self._two = [*(key for key in importances if key in self._params), *self._params][:2]
        self._importances = importances
        self._curves = _reported_curves(self._trials, results.trials)
        self._complete = runs_table(results.complete)
        self._label = loss_label(results.trials)
        losses = independent_losses(self._trials, study.user_attrs.get(SEARCHED_WITH, ()))
        self._tuning = tuning_curve(losses) if losses else None

    def page(self) -> str:
        """One HTML document that needs no network."""
        results, winner = self._results, self._results.winner
        about = [f"Data: {data_in_words(results.trials[:1])}.", f"{counts_in_words(results)} trials."]
        about += [f"Winner: {winner_in_words(results, winner)}; run {winner.run_id}."] if winner else []
        return pictures.page(f"makemore: study {results.name}", self.parts(), [about[0], " ".join(about[1:])])

    def parts(self) -> list[tuple[str, str, Any]]:
        """Each picture with its heading and a hint for the reader."""
        study, runs = self._study, self._complete
        parts: list[tuple[str, str, Any]] = [
            ("Optimisation history", "", _fit(interactive.plot_optimization_history(study, target_name=_TARGET)))
        ]
        if self._tuning:
            hint = (
                "How good the best of so many random trials is: the median over searches like this one, and a band "
                "that holds the whole curve with 95 %. Where the band has no end, there are too few trials to tell."
            )
            parts.append(("Tuning curve", hint, pictures.tuning_curve(self._tuning, self._label)))
        if self._importances:
            hint = "Each hyperparameter's share of the variance in the dev losses, with its 95 % interval over trials."
            bars = {key: (row.share, row.low, row.high) for key, row in self._importances.items()}
            parts.append(("What mattered", hint, pictures.shares(bars)))
        if self._params:
            hint = "Draw along an axis to choose lines; pull an axis by its name to move it."
            columns = [key for key in self._params if key in runs]
            parts.append(("Parallel coordinates", hint, pictures.parallel_coordinates(runs, columns, "best_dev_loss")))
            parts.append(("Dev loss over each hyperparameter", "", self._slices()))
        if len(self._two) == 2:
            contour = interactive.plot_contour(study, params=self._two, target_name=_TARGET)
            parts.append(("The two that mattered most", "", _fit(contour)))
        names = {str(trial.number): f"trial {trial.number}" for trial in self._shown()}
        pruned = {str(trial.number) for trial in self._trials if trial.state == TrialState.PRUNED}
        curves = pictures.learning_curves(self._curves, names, self._label, faint=pruned)
        parts.append(("Learning curves", "Gray: pruned. A click on a name hides its curve, two show it alone.", curves))
        cost = pictures.loss_against_cost(
            runs.assign(name=[f"trial {number}" for number in runs["trial"]]),
            "best_dev_loss",
            "train_seconds",
            "training, seconds",
            self._params,
            self._label,
        )
        parts.append(("Dev loss and the time it took", "No trial beats those on the dotted line in both.", cost))
        return parts

    def _slices(self) -> Any:
        """Dev loss over each hyperparameter, side by side."""
        figure = _fit(interactive.plot_slice(self._study, params=self._params, target_name=_TARGET))
        short = short_names(self._params)
        figure.for_each_xaxis(
            lambda axis: axis.update(title={"text": short[axis.title.text], "standoff": 15}, nticks=4, automargin=True)
        )
        return pictures.with_least_width(figure, _SLICE_PIXELS * len(self._params) + 150)

    def draw(self, folder: Path) -> None:
        """Each picture as a PNG file in a folder."""
        study = self._study
        drawings: dict[str, Callable[[], Any]] = {
            "optimization_history": lambda: still.plot_optimization_history(study, target_name=_TARGET),
            "learning_curves": self._draw_curves,
            "loss_against_cost": self._draw_cost,
        }
        if self._tuning:
            drawings["tuning_curve"] = self._draw_tuning
        if self._importances:
            drawings["param_importances"] = self._draw_importances
        if self._params:
            drawings["parallel_coordinates"] = lambda: still.plot_parallel_coordinate(
                study, params=self._params, target_name=_TARGET
            )
            drawings["slice"] = lambda: still.plot_slice(study, params=self._params, target_name=_TARGET)
        if len(self._two) == 2:
            drawings["contour"] = lambda: still.plot_contour(study, params=self._two, target_name=_TARGET)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.simplefilter("ignore", UserWarning)  # of layouts
            for name, draw in drawings.items():
                # Optuna's functions draw in pyplot, and leave its settings changed.
                with matplotlib.rc_context({"figure.figsize": (7, 4.2), "savefig.bbox": "tight"}):
                    figure = _figure_of(draw())
                    figure.savefig(folder / f"{name}.png", dpi=80, pil_kwargs={"compress_level": 1})
                matplotlib.pyplot.close("all")

    def _shown(self) -> list[FrozenTrial]:
        """The trials whose curves are drawn: the best complete ones, then the last that were pruned."""
        pruned = [trial for trial in self._trials if trial.state == TrialState.PRUNED and trial.intermediate_values]
        return self._ranking[:_CURVES] + pruned[-_CURVES:]

    def _draw_curves(self) -> Figure:
        figure, axes = _axes("training step", self._label)
        for order, trial in reversed(list(enumerate(self._shown()))):
            curve = self._curves[str(trial.number)]
            pruned = trial.state == TrialState.PRUNED
            color = _LAST if pruned else "tab:red" if order == 0 else _FIRST
            axes.plot(curve.steps, curve.values, color=color, linewidth=2 if order == 0 else 0.8)
        for label, color in (("best", "tab:red"), ("complete", _FIRST), ("pruned", _LAST)):
            axes.plot([], [], color=color, label=label)
        axes.legend()
        return figure

    def _draw_importances(self) -> Figure:
        figure, axes = _axes("share of the variance in dev losses", "")
        keys, rows = list(self._importances)[::-1], list(self._importances.values())[::-1]
        ends = [[row.share - row.low for row in rows], [row.high - row.share for row in rows]]
        axes.barh(keys, [row.share for row in rows], xerr=ends, color=_FIRST, ecolor="tab:red")
        return figure

    def _draw_tuning(self) -> Figure:
        assert self._tuning is not None
        figure, axes = _axes("trials", self._label)
        trials = range(1, len(self._tuning.median) + 1)
        axes.plot(trials, self._tuning.median, color=_FIRST, label="median")
        for end in (self._tuning.low, self._tuning.high):
            axes.plot(trials, [value if np.isfinite(value) else np.nan for value in end], ":", color="gray")
        axes.legend()
        return figure

    def _draw_cost(self) -> Figure:
        figure, axes = _axes("training, seconds", self._label)
        front = pictures.pareto_front(self._complete, "best_dev_loss", "train_seconds")
        axes.scatter(self._complete["train_seconds"], self._complete["best_dev_loss"], s=18, color=_FIRST)
        axes.step(front["train_seconds"], front["best_dev_loss"], where="post", color="tab:red", label="Pareto front")
        axes.legend()
        return figure


def _fit(figure: Any) -> Any:
    """A figure drawn by Optuna, as wide as the page and in its style; its title is the heading above it."""
    return pictures.clear_corner(figure).update_layout({**pictures.LAYOUT, "title": None, "width": None})


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _figure_of(drawn: Any) -> Figure:
    """The figure that holds what Optuna returns: axes, or an array of them."""
    if isinstance(drawn, Figure):
        return drawn
    first = drawn.flat[0] if isinstance(drawn, np.ndarray) else drawn
    return first.figure  # type: ignore[no-any-return]


def _reported_curves(trials: Iterable[FrozenTrial], runs: Iterable[RunRecord]) -> dict[str, Curve]:
    """Dev losses as they were reported to Optuna, by the trial's number as text."""
    steps = {run.trial: _steps_between_reports(run) for run in runs}
    curves = {}
    for trial in trials:
        points = [(place, loss) for place, loss in trial.intermediate_values.items() if np.isfinite(loss)]
        step = steps.get(trial.number, 1.0)
        curves[str(trial.number)] = Curve([round(place * step) for place, _ in points], [loss for _, loss in points])
    return curves


def _steps_between_reports(run: RunRecord) -> float:
    """Training steps between two evaluations; 1 for a model that is not trained in steps."""
    steps, evaluations = run.params.get("train.steps"), run.params.get("train.evaluations")
    return int(steps) / int(evaluations) if steps and evaluations else 1.0
