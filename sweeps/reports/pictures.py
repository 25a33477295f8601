"""Interactive pictures of runs as plotly figures, and the page that holds them; nothing here reads records."""

import html
import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.offline import get_plotlyjs

from sweeps.reports.tables import short_names
from sweeps.reports.tuning_curve import TuningCurve
from sweeps.tracking.queries import Curve

_COLOURS = "Viridis"
_DECADES = 30  # a column whose largest number is this many times its smallest has a logarithmic axis
_TICKS = 12  # the most values of a column that have names beside its axis
DIMENSIONS = 12  # the most axes beside each other that can be read
_LETTERS = 22  # the longest name beside an axis
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1400px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; } p { margin: .3rem 0; color: #555; }
.table { overflow: auto; max-height: 36rem; border: 1px solid #ddd; }
.figure { overflow-x: auto; }
@media (prefers-color-scheme: dark) { html { filter: invert(1) hue-rotate(180deg); background: #fff; } }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border: 0; border-bottom: 1px solid #eee; }
th { position: sticky; top: 0; background: #f5f5f5; } tbody tr:hover { background: #f0f6ff; }
"""
_AXIS_PIXELS = 90  # the least between two axes beside each other
_LETTER_PIXELS = 7  # of a name above an axis
LAYOUT = {
    "template": "plotly_white",
    "height": 460,
    "margin": {"l": 70, "r": 30, "t": 20, "b": 60},
    "hoverlabel": {"align": "left"},
}


def shares(rows: Mapping[str, tuple[float, float, float]]) -> go.Figure:
    """Bars with intervals, the first on top.

    Args:
        rows: by name, a share and the ends of its interval.
    """
    names = [_safe(name) for name in rows]
    middle, low, high = (list(column) for column in zip(*rows.values(), strict=True))
    ends = {
        "array": [end - share for share, end in zip(middle, high, strict=True)],
        "arrayminus": [share - end for share, end in zip(middle, low, strict=True)],
    }
    figure = go.Figure(go.Bar(x=middle, y=names, orientation="h", error_x=ends), layout=LAYOUT)
    figure.update_xaxes(title="share of the variance in dev losses", range=[0, 1], tickformat=".0%")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def learning_curves(
    curves: Mapping[str, Curve], names: Mapping[str, str], label: str, faint: Container[str] = ()
) -> go.Figure:
    """Losses over steps, one line per run; the first are dark.

    Args:
        label: of the axis of losses.
        curves: by run; a run without a curve keeps its place in the legend.
        names: by run, in the order of the legend.
        faint: the runs whose lines are thin and gray, without a name in the legend.
    """
    figure = go.Figure(layout=LAYOUT)
    colours = sample_colorscale(_COLOURS, np.linspace(0, 0.9, len(names))) if names else []
    for (run, name), colour in zip(names.items(), colours, strict=True):
        curve = curves.get(run, Curve([], []))
        figure.add_scatter(
            x=list(curve.steps),
            y=[value if math.isfinite(value) else None for value in curve.values],  # a gap in the line
            name=_safe(name),
            mode="lines" if run in faint else "lines+markers",
            marker={"size": 4},
            line={"color": "lightgray", "width": 1} if run in faint else {"color": colour, "width": 1.5},
            showlegend=run not in faint,
        )
    figure.update_xaxes(title="training step", rangemode="tozero")
    figure.update_yaxes(title=label)
    return clear_corner(figure).update_layout(showlegend=True, legend={"font": {"size": 11}})


def tuning_curve(curve: TuningCurve, label: str) -> go.Figure:
    """The best dev loss over the number of trials, with its band; an end that nothing bounds is not drawn.

    Args:
        label: of the axis of losses.
    """
    figure = go.Figure(layout=LAYOUT)
    trials = list(range(1, len(curve.median) + 1))
    known = [[value if math.isfinite(value) else None for value in line] for line in (curve.low, curve.high)]
    for name, values in zip(("lower end", "upper end"), known, strict=True):
        figure.add_scatter(x=trials, y=values, name=name, mode="lines", line={"dash": "dot", "color": "#7f7f7f"})
    median = [value if math.isfinite(value) else None for value in curve.median]
    figure.add_scatter(x=trials, y=median, name="median", mode="lines", line={"color": "#1f77b4", "width": 2.5})
    figure.update_xaxes(title="trials")
    figure.update_yaxes(title=label)
    return clear_corner(figure).update_layout(showlegend=True)


def loss_against_cost(
    runs: pd.DataFrame, loss: str, cost: str, title: str, details: Sequence[str], label: str
) -> go.Figure:
    """Dev loss over cost, one point per run, and the front of the runs that no other run beats in both.

    Args:
        label: of the axis of losses.
        runs: columns name, `loss` and `cost`; with a column group, each group has a colour.
        title: the title of the axis of costs.
        details: columns that are shown for the point under the pointer.
    """
    figure = go.Figure(layout=LAYOUT)
    known = runs[np.isfinite(runs[loss]) & np.isfinite(runs[cost])]
    grouped = known.assign(group=known["group"].fillna("") if "group" in known else "")
    for group, members in grouped.groupby("group", sort=False):
        figure.add_scatter(
            x=members[cost],
            y=members[loss],
            mode="markers",
            name=_safe(group or "runs"),
            text=["<br>".join([_safe(row["name"]), *_details(row, details)]) for _, row in members.iterrows()],
            hovertemplate="%{text}<br>dev loss %{y:.4f}<br>%{x:.4g}<extra></extra>",
            marker={"size": 8, "opacity": 0.75},
        )
    front = pareto_front(known, loss, cost)
    figure.add_scatter(
        x=front[cost],
        y=front[loss],
        mode="lines",
        line={"shape": "hv", "dash": "dot", "color": "#d62728"},
        name="Pareto front",
        hoverinfo="skip",
    )
    figure.update_xaxes(title=title, type="log" if _spans_decades(known[cost]) else "linear")
    figure.update_yaxes(title=label)
    return clear_corner(figure).update_layout(showlegend=True)


def pareto_front(runs: pd.DataFrame, loss: str, cost: str) -> pd.DataFrame:
    """The rows that no other row beats or equals in both columns, cheapest first."""
    ordered = runs.sort_values([cost, loss])
    return ordered[ordered[loss] < ordered[loss].cummin().shift(fill_value=math.inf)]


def parallel_coordinates(runs: pd.DataFrame, columns: Sequence[str], loss: str) -> go.Figure:
    """One axis per column and one line per run, coloured by the dev loss, which is the last axis.

    Axes can be brushed and moved.

    Args:
        runs: numbers or text, which may be missing; a row without a finite loss has no line.
        columns: the first twelve are drawn.
    """
    known = runs[np.isfinite(runs[loss])]
    losses = known[loss].astype(float)
    dimensions = [_axis(known[column], label) for column, label in short_names(columns[:DIMENSIONS]).items()]
    dimensions.append({"label": "dev loss", "values": losses.tolist(), "tickformat": ".3f"})
    line = {"color": losses.tolist(), "colorscale": _COLOURS, "showscale": True, "colorbar": {"title": "dev loss"}}
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, labelfont={"size": 12}))
    figure.update_layout({**LAYOUT, "margin": {"l": 110, "r": 40, "t": 60, "b": 30}})
    longest = max(len(dimension["label"]) for dimension in dimensions)
    return with_least_width(figure, len(dimensions) * max(_AXIS_PIXELS, _LETTER_PIXELS * longest + 15) + 150)


def with_least_width(figure: go.Figure, pixels: int) -> go.Figure:
    """The figure, which is scrolled where the page is narrower than that."""
    return figure.update_layout(meta={"least_width": pixels})


def clear_corner(figure: go.Figure) -> go.Figure:
    """The figure with room between the labels of its two axes where these meet."""
    return figure.update_xaxes(ticklabelstandoff=5).update_yaxes(ticklabelstandoff=5)


def _details(row: "pd.Series[Any]", columns: Sequence[str]) -> list[str]:
    return [
        f"{label} {row[key]:.4g}" if isinstance(row[key], float) else _safe(f"{label} {row[key]}")
        for key, label in short_names(columns).items()
        if pd.notna(row[key])
    ]


def page(title: str, parts: Sequence[tuple[str, str, go.Figure | pd.DataFrame]], about: Sequence[str] = ()) -> str:
    """One HTML document that needs no network, light or dark as its reader's system is.

    Args:
        parts: of each its heading, a remark, and a picture or a table of text.
        about: sentences under the title.
    """
    body = [f"<p>{html.escape(sentence)}</p>" for sentence in about]
    for heading, remark, content in parts:
        body.append(f"<h2>{html.escape(heading)}</h2>" + (f"<p>{html.escape(remark)}</p>" if remark else ""))
        if isinstance(content, pd.DataFrame):
            body.append(f'<div class="table">{content.to_html(index=False, border=0, escape=True)}</div>')
        else:
            options = {"displaylogo": False, "responsive": True}
            drawn = content.to_html(full_html=False, include_plotlyjs=False, config=options)
            least = (content.layout.meta or {}).get("least_width", 0)
            body.append(f'<div class="figure"><div style="min-width: {least}px">{drawn}</div></div>')
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script></head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _axis(values: "pd.Series[Any]", label: str) -> dict[str, Any]:
    """A dimension of parallel coordinates: numbers; or their logarithms, or places of names, with labels.

    Missing values lie below the rest.
    """
    missing = values.isna()
    ticks: dict[float, str] = {}
    if pd.api.types.is_numeric_dtype(values) and np.isfinite(values[~missing].astype(float)).all():
        numbers = values.astype(float)
        if _spans_decades(numbers[~missing]):
            low, high = numbers.min(), numbers.max()
            numbers = numbers.map(math.log10, na_action="ignore")
            powers = [10.0**power for power in range(math.floor(numbers.min()), math.ceil(numbers.max()) + 1)]
            places = [factor * power for power in powers for factor in (1, 2, 5)]
            ticks = {math.log10(at): f"{at:g}" for at in places if low <= at <= high}
        elif missing.any():  # otherwise plotly finds ticks
            ticks = {at: f"{at:.3g}" for at in np.linspace(numbers.min(), numbers.max(), 5).tolist()}
    else:
        names = sorted(values[~missing].astype(str).unique())
        numbers = values.astype(str).where(~missing).map({name: float(place) for place, name in enumerate(names)})
        ticks = {float(place): _shorten(name) for place, name in enumerate(names[:_TICKS])}
    if missing.any():
        below = numbers.min() - ((numbers.max() - numbers.min()) or 1.0) / 5
        numbers = numbers.fillna(below)
        ticks[below] = "none"
    axis: dict[str, Any] = {"label": _safe(label), "values": numbers.tolist()}
    return axis | {"tickvals": list(ticks), "ticktext": [_safe(text) for text in ticks.values()]} if ticks else axis


def _spans_decades(numbers: "pd.Series[float]") -> bool:
    return len(numbers) > 0 and numbers.min() > 0 and numbers.max() / numbers.min() > _DECADES


def _safe(text: object) -> str:
    """Text that plotly shows as it is, not as markup."""
    return html.escape(str(text), quote=False)


def _shorten(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
