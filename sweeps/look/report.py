"""The report of one look at a test split: as Markdown, as a page, and as a picture. It explains its own numbers."""

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from makemore.bootstrap import FEWEST
from makemore.limits import LimitError
from sweeps.look.declaration import in_words
from sweeps.look.record import Record
from sweeps.reports.intervals import FEW
from sweeps.task.fonts import find_font

Content = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; } img { max-width: 100%; background: #fff; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #8886; }
"""
_HEAD = ["baseline", "smoothing", "test loss", "difference", "95 % interval"]


@dataclass(frozen=True)
class _Section:
    """A heading, then sentences of which each is a paragraph, then points, then a table with its head."""

    heading: str
    sentences: Sequence[str] = ()
    points: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()


def as_text(claim: Content, result: Content, claims: Sequence[Record]) -> str:
    """The report of a look, one page of Markdown; `claims` are all claims on the same source."""
    lines = []
    for number, section in enumerate(_sections(claim, result, claims)):
        lines += [f"{'##' if number else '#'} {section.heading}", ""]
        for sentence in section.sentences:
            lines += [sentence, ""]
        if section.points:
            lines += [*(f"- {point}" for point in section.points), ""]
        if section.table:
            head, *rows = section.table
            lines += [_row(head), "|---" * len(head) + "|", *map(_row, rows), ""]
    return "\n".join(lines).rstrip()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def as_page(claim: Content, result: Content, claims: Sequence[Record]) -> str:
    """The same as one HTML document with the picture, which needs no network."""
    title, *rest = _sections(claim, result, claims)
    body = [f"<h1>{html.escape(title.heading)}</h1>", *_html(title)]
    if (figure := draw(claim, result)) is not None:
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100)
        source = base64.b64encode(picture.getvalue()).decode()
        body.append(f'<p><img alt="The intervals, drawn" src="data:image/png;base64,{source}"></p>')
    for section in rest:
        body += [f"<h2>{html.escape(section.heading)}</h2>", *_html(section)]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title.heading)}</title>\n'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _html(section: _Section) -> Iterator[str]:
    for sentence in section.sentences:
        yield f"<p>{html.escape(sentence)}</p>"
    if section.points:
        yield "<ul>" + "".join(f"<li>{html.escape(point)}</li>" for point in section.points) + "</ul>"
    if section.table:
        yield '<div class="table"><table>'
        for tag, row in zip(["th", *["td"] * (len(section.table) - 1)], section.table, strict=True):
            yield "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        yield "</table></div>"


def _sections(claim: Content, result: Content, claims: Sequence[Record]) -> list[_Section]:
    item, _, unit = nouns(result)
    if result["test_loss"] is None:
        said = (
            f"The winner's loss on at least one of the {item}s is infinite or NaN, so there is no mean loss, and "
            "nothing to compare. The look is spent."
        )
        return [
            _Section(f"Test loss infinite or NaN (look {claim['look']})", [said]),
            _Section("What was looked at", points=_subject(claim, result, claims)),
        ]
    sections = [
        _Section(f"Test loss {result['test_loss']:.4f} {unit} (look {claim['look']})", [_headline(result)]),
        _Section("What was looked at", points=_subject(claim, result, claims)),
        _Section("What the numbers say", points=_numbers(claim, result)),
    ]
    if result["baselines"]:
        sections.append(_comparison(claim, result))
    return [*sections, _Section("What they do not say", points=_limits(claim, result))]


def _headline(result: Content) -> str:
    item, term, _ = nouns(result)
    parts = [_interval_of(result, "test_loss", item)]
    if "perplexity" in result:
        parts.append(f"perplexity {result['perplexity']:.3f}")
    if "bits_per_character" in result:
        parts.append(f"{result['bits_per_character']:.4f} bits per character")
    return f"{', '.join(parts)}; {result[f'{item}s']} {item}s, {result[f'{term}s']} {term}s."


def _subject(claim: Content, result: Content, claims: Sequence[Record]) -> list[str]:
    """What was looked at, by whom, and how often, and what was declared before."""
    item, _, unit = nouns(result)
    attempts = result["attempts"]
    points = [
        f"The test split of {claim['source']} ({claim['split']}, seed {claim['split_seed']}, digest "
        f"{claim['split_digest'][:12]}), which was held back from training and from choosing.",
        f"The winner of study {claim['study']}: trial {claim['trial']}, run {claim['run_id']}, config "
        f"{claim['config_hash']}, weights {claim['weights_digest'][:12]}.",
        f"Claimed by {claim['who']} on {claim['when']}, before any of these {item}s was read; read in {attempts} "
        f"{'attempt' if attempts == 1 else 'attempts'}.",
    ]
    if claim.get("signed_by"):
        points.append(f"Signed with the SSH key {claim['signed_by']}; makemore looks checks the signatures.")
    points += in_words(claim.get("declared", {}), unit)
    others = [record.content for record in claims if record.content["study"] != claim["study"]]
    if not others:
        return [*points, f"No other look at these {item}s is recorded here."]
    why = "each look tells whoever chooses what comes next something about them"
    points.append(f"This is look {claim['look']} at these {item}s (reason: {claim['reason'] or 'none'}): {why}.")
    return [*points, *map(_other_look, others)]


def _other_look(look: Content) -> str:
    who = f", by {look['who']} on {look['when']}" if look.get("who") else ""
    place = f"; recorded in {look['place']}" if "place" in look else ""
    return f"look {look['look']}: study {look['study']}{who}, reason: {look['reason'] or 'none'}{place}"


def _numbers(claim: Content, result: Content) -> list[str]:
    """Each figure with what it means."""
    item, _, unit = nouns(result)
    points = [
        f"Test loss {result['test_loss']:.4f}: the mean loss of the winner's weights on these {item}s, in {unit}; "
        f"lower is better. Its interval says how far it would move with other {item}s of the same kind.",
    ]
    if claim["look"] > 1 and result.get("test_loss_widened_low") is not None:
        points.append(
            f"Allowing for {claim['look']} looks, {_interval_of(result, 'test_loss_widened', item)}: as wide as it "
            "must be for the intervals of all these looks to be right together in 95 of 100 cases (Bonferroni). It "
            f"does not allow for choices that an earlier look has guided; no interval from these {item}s can."
        )
    if result.get("seeds_test_loss") is not None:
        losses = ", ".join(f"{loss:.4f}" for loss in result["seeds_test_losses"])
        seeds = ", ".join(str(run["seed"]) for run in result["confirming_runs"])
        points.append(
            f"Mean over fresh seeds {result['seeds_test_loss']:.4f}, "
            f"{_interval_of(result, 'seeds_test_loss', f'seed and {item}')}: what to expect of the winner's setting "
            f"when it is trained again. Seeds {seeds} gave {losses}."
        )
    points.append(
        f"Dev loss {result['dev_loss']:.4f}, by which the study chose; the test loss minus the dev loss of the same "
        f"weights is {result['gap']:+.4f}.{_selection(result)}"
    )
    if result.get("dev_loss_corrected") is not None:
        rest = f" ({result['selection_left_out']} worse trials left out)" if result["selection_left_out"] else ""
        points.append(
            f"Dev loss corrected for having been chosen {result['dev_loss_corrected']:.4f}, "
            f"{_interval_of(result, 'dev_loss_corrected', f'dev {item}')}: the choice of the search's best among "
            f"{result['selection_trials']} trials{rest} was repeated on resampled dev {item}s, and judged on the "
            f"others. It allows for luck with dev {item}s, not for luck with seeds."
        )
    known = result[f"{item}s_also_in_train"]
    points.append(f"{known} of the {item}s are also in train{_without(result) if known else ''}.")
    return points


def _selection(result: Content) -> str:
    too_good = result["selection"]
    if too_good is None:
        return ""
    if too_good <= 0:
        return " Trained again with fresh seeds, the setting's dev loss was no higher than in the search."
    return f" Fresh seeds show that choosing the best trial made the dev loss look {too_good:.4f} too good."


def _without(result: Content) -> str:
    loss = result["test_loss_without_them"]
    return f"; without them the test loss is {loss:.4f}" if loss is not None else ""


def _comparison(claim: Content, result: Content) -> _Section:
    item, _, _ = nouns(result)
    baselines, adjusted = result["baselines"], _is_adjusted(result)
    sentences = [
        f"Difference: the baseline's test loss minus the winner's on the same {item}s; above zero, the winner is the "
        "better one."
    ]
    if f"trial {result.get('first_trial')}" in [baseline["name"] for baseline in baselines]:
        sentences.append(
            f"Trial {result['first_trial']} is the first setting that was trained to its end: its difference is what "
            "tuning gained."
        )
    if adjusted:
        looks = f" of {claim['look']} looks" if claim["look"] > 1 and "test_loss_widened_low" in result else ""
        sentences.append(
            f"The adjusted intervals hold together, for all {len(baselines)} comparisons{looks} at once (Bonferroni); "
            "the last column goes by them."
        )
    better = [baseline for baseline in baselines if _verdict(baseline) == "better than the winner"]
    sentences += [
        f"{baseline['name']} is better than the winner: its test loss is {-baseline['difference']:.4f} lower."
        for baseline in better
    ]
    head = [*_HEAD, *(["adjusted interval"] if adjusted else []), "the baseline is"]
    rows = []
    for baseline in baselines:
        row = [baseline["name"], "-" if baseline["smoothing"] is None else f"{baseline['smoothing']:.3g}"]
        row += [f"{baseline['test_loss']:.4f}", f"{baseline['difference']:+.4f}", _interval(baseline)]
        rows.append([*row, *([_interval(baseline, "adjusted_")] if adjusted else []), _verdict(baseline)])
    return _Section("Compared with", sentences, table=[head, *rows])


def _is_adjusted(result: Content) -> bool:
    """Whether there is more than one comparison, counting those of earlier looks at the same items."""
    several = len(result["baselines"]) > 1 or "test_loss_widened_low" in result
    return several and "adjusted_low" in result["baselines"][0]


def _verdict(baseline: Content) -> str:
    """What the interval says of a baseline; without an interval, or with 0 in it, nothing."""
    low, high = (baseline.get(f"adjusted_{end}", baseline[end]) for end in ("low", "high"))
    if baseline["difference"] == 0 and low == high == 0:
        return "equal to the winner"
    if low is None or low <= 0 <= high:
        return "undecided"
    return "better than the winner" if high < 0 else "worse than the winner"


def _limits(claim: Content, result: Content) -> list[str]:
    """What a reader might take the numbers for, and they are not."""
    item, _, _ = nouns(result)
    units = result.get("units", result[f"{item}s"])
    points = [
        f"The intervals over {item}s are for the weights of run {claim['run_id']} alone; training again with another "
        "seed gives other weights.",
        f"They are for {item}s of the same kind as those of {claim['source']}, not for others.",
    ]
    if units < result[f"{item}s"]:
        points.append(
            f"The {result[f'{item}s']} {item}s are {units} independent ones: equal {item}s, and {item}s of one group, "
            "were resampled together."
        )
    if units < FEWEST:
        points.append(f"There is no interval: {units} independent {item}s are too few; it takes at least {FEWEST}.")
    elif units < FEW:
        points.append(f"The intervals are rough: {units} independent {item}s are few; it takes some {FEW}.")
    return [*points, *result.get("remarks", [])]


def nouns(result: Content) -> tuple[str, str, str]:
    """The nouns for an item and for a term of its loss, and the unit of losses; older results are about words."""
    return result.get("item", "word"), result.get("term", "character"), result.get("unit", "nats per character")


def _interval(content: Content, prefix: str = "") -> str:
    low, high = content[f"{prefix}low"], content[f"{prefix}high"]
    return "-" if low is None else f"[{low:.4f}, {high:.4f}]"


def _interval_of(result: Content, name: str, over: str) -> str:
    """The interval of a figure in words; `over` is what was resampled, in the singular."""
    if result[f"{name}_low"] is None:
        one_seed = len(result.get("confirming_runs", ())) == 1 and name == "seeds_test_loss"
        return "without an interval" + (", which takes two seeds" if one_seed else "")
    return f"95 % interval {_interval(result, f'{name}_')} over {over.replace(' and ', 's and ')}s"


def draw(claim: Content, result: Content) -> Figure | None:
    """A picture of the baselines' differences from the winner with their intervals; without any, of the test loss.

    None where the test loss is infinite or NaN.
    """
    if result["test_loss"] is None:
        return None
    _, _, unit = nouns(result)
    rows = [
        (one["name"], one["difference"], (one["low"], one["high"]), (one.get("adjusted_low"), one.get("adjusted_high")))
        for one in result["baselines"]
    ]
    xlabel = f"baseline's test loss minus the winner's, {unit}\nright of 0, the winner is better"
    if not rows:
        names = {"test_loss": "the winner's weights", "seeds_test_loss": "mean over fresh seeds"}
        known = {name: label for name, label in names.items() if result.get(name) is not None}
        rows = [
            (label, result[name], (result[f"{name}_low"], result[f"{name}_high"]), (None, None))
            for name, label in known.items()
        ]
        xlabel = f"test loss, {unit}"
    figure = Figure(figsize=(8, 0.5 * len(rows) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    sign = "+" if result["baselines"] else ""
    for place, (_, mean, inner, outer) in enumerate(rows):
        for (low, high), width in ((outer, 1.0), (inner, 3.0)):
            if low is not None:
                axes.plot([low, high], [place, place], color="tab:blue", linewidth=width, solid_capstyle="butt")
        axes.plot(mean, place, "o", color="black", markersize=4)
        number = f"{mean:{sign}.4f}"
        axes.annotate(number, (mean, place), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    if result["baselines"]:
        axes.axvline(0, color="gray", linewidth=1)
    axes.set_yticks(range(len(rows)))
    for label, (name, *_) in zip(axes.set_yticklabels([""] * len(rows)), rows, strict=True):
        text, font = _drawable(name)
        label.update({"text": text, "fontproperties": font})
    axes.set_ylim(len(rows) - 0.5, -0.7)
    axes.margins(x=0.1)
    title = f"study {claim['study']}: look {claim['look']} at {claim['source']} ({claim['split']})"
    axes.set(xlabel=xlabel)
    text, font = _drawable(title)
    axes.set_title(text, fontproperties=font)
    return figure


def _drawable(text: str) -> tuple[str, FontProperties | None]:
    """Text that Matplotlib does not read as a formula, and a font that has its letters; escaped where none has them."""
    font = find_font(text)
    shown = text if font else text.encode("ascii", "backslashreplace").decode()
    return shown.replace("$", r"\$"), font


def check_format(form: str) -> None:
    """Raise LimitError unless `form` is text or json."""
    if form not in ("text", "json"):
        raise LimitError("format", form, "text or json")
