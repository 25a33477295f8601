"""The report of one look at a test split, and its picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from makemore.limits import LimitError
from sweeps.look.record import Record
from sweeps.task.fonts import find_font

Content = Mapping[str, Any]


def as_text(claim: Content, result: Content, claims: Sequence[Record]) -> str:
    """The report of a look, one page of Markdown; `claims` are all claims on the same source."""
    item, term, unit = nouns(result)
    size = f"{result[f'{item}s']} {item}s, {result[f'{term}s']} {term}s"
    other_units = [f"perplexity {result['perplexity']:.3f}"] if "perplexity" in result else []
    if "bits_per_character" in result:
        other_units.append(f"{result['bits_per_character']:.4f} bits per character")
    interval = f"95 % interval {_interval(result['test_loss_low'], result['test_loss_high'])}"
    lines = [
        f"# Test loss {result['test_loss']:.4f} {unit} (look {claim['look']})",
        "",
        f"{', '.join([interval, *other_units])}; {size}.",
        "",
        f"- Winner: trial {claim['trial']} of study {claim['study']}, run {claim['run_id']}, "
        f"config {claim['config_hash']}, weights {claim['weights_digest'][:12]}.",
        f"- Split: {claim['source']}, {claim['split']}, seed {claim['split_seed']}, {claim['split_digest'][:12]}.",
        f"- Dev loss {result['dev_loss']:.4f}: the test loss minus it is {result['gap']:+.4f}{_selection(result)}.",
        f"- {result[f'{item}s_also_in_train']} of the {item}s are also in train{_without(result)}.",
        f"- Claimed by {claim['who']} on {claim['when']}; read in {result['attempts']} "
        f"{'attempt' if result['attempts'] == 1 else 'attempts'}.",
    ]
    if result["baselines"]:
        lines += ["", "| baseline | smoothing | test loss | worse by | 95 % interval |", "|---|---|---|---|---|"]
    for baseline in result["baselines"]:
        smoothing = "-" if baseline["smoothing"] is None else f"{baseline['smoothing']:.3g}"
        lines.append(
            f"| {baseline['name']} | {smoothing} | {baseline['test_loss']:.4f} | {baseline['difference']:+.4f} | "
            f"{_interval(baseline['low'], baseline['high'])} |"
        )
    paired = f"; in the last column the two models' losses are paired by {item}" if result["baselines"] else ""
    lines += ["", f"Intervals are bootstrapped over {item}s{paired}."]
    others = [record.content for record in claims if record.content["study"] != claim["study"]]
    if others:
        lines += [
            "",
            f"This is look {claim['look']} at these {item}s (reason: {claim['reason'] or 'none'}). The other looks:",
            "",
        ]
        lines += [
            f"- look {other['look']}: study {other['study']}, by {other['who']} on {other['when']}, "
            f"reason: {other['reason'] or 'none'}"
            for other in others
        ]
    return "\n".join(lines)


def nouns(result: Content) -> tuple[str, str, str]:
    """The nouns for an item and for a term of its loss, and the unit of losses; older results are about words."""
    return result.get("item", "word"), result.get("term", "character"), result.get("unit", "nats per character")


def _interval(low: float, high: float) -> str:
    return f"[{low:.4f}, {high:.4f}]"


def _selection(result: Content) -> str:
    if result["selection"] is None:
        return ""
    return f"; fresh seeds show that choosing the best trial made the dev loss look {result['selection']:.4f} too good"


def _without(result: Content) -> str:
    loss = result["test_loss_without_them"]
    return f"; without them the loss is {loss:.4f}" if loss is not None else ""


def draw(claim: Content, result: Content) -> Figure:
    """A picture of the winner's test loss, with its interval, and of the baselines' test losses."""
    names = ["winner", *(baseline["name"] for baseline in result["baselines"])]
    losses = [result["test_loss"], *(baseline["test_loss"] for baseline in result["baselines"])]
    figure = Figure(figsize=(6, 0.5 * len(names) + 1))
    axes = figure.add_axes((0.2, 0.18, 0.76, 0.7))
    axes.barh(names, losses, color=["tab:blue", *["lightgray"] * (len(names) - 1)])
    axes.errorbar(
        losses[0],
        0,
        xerr=[[losses[0] - result["test_loss_low"]], [result["test_loss_high"] - losses[0]]],
        color="black",
        capsize=4,
    )
    axes.invert_yaxis()
    for row, loss in enumerate(losses):
        axes.annotate(f" {loss:.3f}", (max(loss, result["test_loss_high"]), row), va="center")
    title = f"study {claim['study']}: look {claim['look']} at {claim['source']} ({claim['split']})"
    axes.set(xlabel=f"test loss, {nouns(result)[2]}", xlim=(0, max(losses) * 1.12))
    font = find_font(title)  # of the list's name
    axes.set_title(title if font else title.encode("ascii", "backslashreplace").decode(), fontproperties=font)
    return figure


def check_format(form: str) -> None:
    """Raise LimitError unless `form` is text or json."""
    if form not in ("text", "json"):
        raise LimitError("format", form, "text or json")
