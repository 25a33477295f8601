"""What the one look says: each figure is computed here in another way, from a made-up list of words."""

import json
import math
import random
import re
import shutil
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from conftest import Makemore, call
from fake_tasks import FAKE
from omegaconf import OmegaConf
from scipy.stats import norm as normal
from scipy.stats import t as student

import sweeps.look.evaluation
import sweeps.reports.selection
from makemore.data import read_words
from sweeps.look.beside import find_beside
from sweeps.look.candidate import find_candidate
from sweeps.look.declaration import declare
from sweeps.look.evaluation import evaluate
from sweeps.look.record import Record
from sweeps.look.report import as_page, as_text, draw
from sweeps.reports.selection import find_selection
from sweeps.reports.studies import read_study
from sweeps.task.held_out import read_test_items
from sweeps.task.language_model.weights import load_weights
from sweeps.tracking.store import MlflowClient, open_tracking
from sweeps.trials.confirm import confirming_runs
from sweeps.trials.trials import find_trials, open_trials

STUDY = (
    *("sweep", "study.name=a", "space=none", "model.hidden_neurons=1,12,24", "study.workers=1", "train.steps=150"),
    *("train.evaluations=2", "study.confirm.top=1", "study.confirm.seeds=3", "data=file", "data.path=made.txt"),
    "data.split=lecture",
)
LOOK = ("final-test", "study.name=a", "final_test.confirm=true", "format=json")


def made_up_words() -> list[str]:
    """Nonsense, some of it twice."""
    draw = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    weights = draw.choices(range(1, 61), k=60)
    words = ["".join(draw.choices(syllables, weights, k=draw.choice([1, 2, 2, 3, 3]))) for _ in range(800)]
    return words + words[:100]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of a made-up list."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "made.txt").write_text("\n".join(made_up_words()))
    call(folder, *STUDY)
    return folder


@pytest.fixture(scope="session")
def looked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that folder, in which the look has been taken."""
    folder = tmp_path_factory.mktemp("looked")
    copy_records(made, folder)
    nowhere = "looks.ledger=null"  # no test has begun, so that there is no state folder but the person's
    (folder / "result.json").write_text(call(folder, *LOOK, nowhere))
    return folder


def copy_records(made: Path, folder: Path) -> Path:
    """Copy the databases; the artifacts stay where they are."""
    (folder / "mlruns").mkdir()
    for name in ("mlflow.db", "study.db"):
        shutil.copy(made / "mlruns" / name, folder / "mlruns" / name)
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the study's records."""
    monkeypatch.chdir(copy_records(made, tmp_path))
    return tmp_path


@pytest.fixture
def result(looked: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((looked / "result.json").read_text())
    return found


class Split:
    """The lecture's split of the made-up list, dealt here in another way."""

    def __init__(self) -> None:
        words = made_up_words()
        random.Random(42).shuffle(words)
        self.train, self.dev, self.test = words[:720], words[720:810], words[810:]
        self.alphabet = "." + "".join(sorted(set("".join(words))))


def trials(folder: Path, name: str = "a") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{folder}/mlruns/study.db").trials


def artifacts(made: Path, run_id: str) -> Path:
    return made / "mlruns/artifacts" / run_id / "artifacts"


def losses_of(made: Path, run_id: str, words: list[str]) -> list[float]:
    """Each word's loss under a run's weights, character by character."""
    saved = load_weights(artifacts(made, run_id) / "weights.safetensors")
    stoi = saved.alphabet.stoi
    losses = []
    for word in words:
        context, total = [0] * saved.config.block_size, 0.0
        for character in word + ".":
            with torch.no_grad():
                logits = saved.module(torch.tensor([context])).double()
            total -= torch.log_softmax(logits, 1)[0, stoi[character]].item()
            context = [*context[1:], stoi[character]]
        losses.append(total)
    return losses


def counted(words: list[str], order: int) -> dict[str, Counter[str]]:
    """How often each character follows each context of order - 1 characters."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for word in words:
        text = "." * (order - 1) + word + "."
        for end in range(order - 1, len(text)):
            counts[text[end - order + 1 : end]][text[end]] += 1
    return counts


def counted_losses(probability: Callable[[str, str], float], order: int, words: list[str]) -> list[float]:
    losses = []
    for word in words:
        text = "." * (order - 1) + word + "."
        places = range(order - 1, len(text))
        losses.append(-sum(math.log(probability(text[end - order + 1 : end], text[end])) for end in places))
    return losses


def additive(split: Split, order: int, smoothing: float) -> Callable[[str, str], float]:
    counts, size = counted(split.train, order), len(split.alphabet)

    def probability(context: str, character: str) -> float:
        row = counts.get(context, Counter())
        return (row[character] + smoothing) / (sum(row.values()) + smoothing * size)

    return probability


def kneser_ney(split: Split, order: int, discount: float) -> Callable[[str, str], float]:
    tables = [counted(split.train, order)]
    for _ in range(order - 1):  # a shorter context counts how many different characters precede it
        shorter: dict[str, Counter[str]] = defaultdict(Counter)
        for context, row in tables[-1].items():
            for character in row:
                shorter[context[1:]][character] += 1
        tables.append(shorter)

    def probability(context: str, character: str, level: int = 0) -> float:
        if level == len(tables):
            return 1 / len(split.alphabet)
        row, below = tables[level].get(context), probability(context[1:], character, level + 1)
        if not row:
            return below
        total, above = sum(row.values()), sum(max(count - discount, 0) for count in row.values())
        return max(row[character] - discount, 0) / total + (1 - above / total) * below

    return probability


def mean(losses: list[float], words: list[str]) -> float:
    return sum(losses) / sum(len(word) + 1 for word in words)


def by_word(losses: list[float], words: list[str]) -> tuple[Any, Any]:
    """Losses and characters summed over equal words."""
    summed: dict[str, list[float]] = {}
    for loss, word in zip(losses, words, strict=True):
        row = summed.setdefault(word, [0.0, 0.0])
        row[0] += loss
        row[1] += len(word) + 1
    table = np.array(list(summed.values()))
    return table[:, 0], table[:, 1]


def bootstrap_t(losses: list[float], words: list[str], level: float = 0.95) -> tuple[float, float]:
    """The interval by its definition, one draw after the other."""
    x, n = by_word(losses, words)
    draw = np.random.default_rng(1)

    def error(x: Any, n: Any) -> float:
        return float(np.sqrt(((x - x.sum() / n.sum() * n) ** 2).sum()) / n.sum())

    middle, distances = x.sum() / n.sum(), []
    for _ in range(4000):
        drawn = draw.integers(len(x), size=len(x))
        distances.append((x[drawn].sum() / n[drawn].sum() - middle) / error(x[drawn], n[drawn]))
    high, low = np.quantile(distances, [(1 + level) / 2, (1 - level) / 2])
    return middle - high * error(x, n), middle - low * error(x, n)


def check_interval(low: float, high: float, expected: tuple[float, float]) -> None:
    width = expected[1] - expected[0]
    assert [low, high] == pytest.approx(list(expected), abs=0.07 * width)


def test_the_test_loss_and_what_belongs_to_it(result: dict[str, Any], made: Path) -> None:
    split = Split()
    losses = losses_of(made, result["run_id"], split.test)
    characters = sum(len(word) + 1 for word in split.test)
    loss = sum(losses) / characters
    assert result["test_loss"] == pytest.approx(loss, abs=1e-6)
    assert result["perplexity"] == pytest.approx(math.exp(loss), abs=1e-5)
    assert result["bits_per_character"] == pytest.approx(loss / math.log(2), abs=1e-6)
    assert (result["words"], result["characters"]) == (90, characters)
    assert result["distinct_words"] == result["units"] == len(set(split.test)) < 90
    known = [word in split.train for word in split.test]
    assert result["words_also_in_train"] == sum(known)
    others = [(loss, word) for loss, word, also in zip(losses, split.test, known, strict=True) if not also]
    without = mean([loss for loss, _ in others], [word for _, word in others])
    assert result["test_loss_without_them"] == pytest.approx(without, abs=1e-6)
    check_interval(result["test_loss_low"], result["test_loss_high"], bootstrap_t(losses, split.test))
    winner = trials(made)[result["trial"]]
    assert (
        result["dev_loss"]
        == winner.value
        == pytest.approx(mean(losses_of(made, result["run_id"], split.dev), split.dev))
    )
    assert result["gap"] == pytest.approx(loss - result["dev_loss"], abs=1e-6)


COUNTED: dict[str, tuple[Callable[[Split, int, float], Callable[[str, str], float]], int, float]] = {
    "2-gram counts": (additive, 2, 10 ** (1 / 8)),
    "3-gram counts": (additive, 3, 10 ** (1 / 8)),
    "4-gram counts": (additive, 4, 10 ** (1 / 8)),
    "6-gram Kneser-Ney": (kneser_ney, 6, 10 / 9),
}


def baseline_losses(result: dict[str, Any], made: Path, split: Split, words: list[str]) -> dict[str, list[float]]:
    """Each word's loss under each baseline, with the smoothing that the result names."""
    amounts = {one["name"]: one["smoothing"] for one in result["baselines"]}
    losses = {"uniform": [(len(word) + 1) * math.log(len(split.alphabet)) for word in words]}
    for name, (kind, order, _) in COUNTED.items():
        losses[name] = counted_losses(kind(split, order, amounts[name]), order, words)
    first = trials(made)[0].user_attrs["run_id"]
    return {**losses, "trial 0": losses_of(made, first, words)}


def test_the_baselines(result: dict[str, Any], made: Path) -> None:
    split = Split()
    winner = losses_of(made, result["run_id"], split.test)
    found = {one["name"]: one for one in result["baselines"]}
    for name, (kind, order, step) in COUNTED.items():
        amount = found[name]["smoothing"]
        tried = [amount / step, amount, amount * step] if kind is additive else [0.5, 0.7, amount]
        tried = [other for other in tried if 0.0009 < other < 101]
        dev = {other: mean(counted_losses(kind(split, order, other), order, split.dev), split.dev) for other in tried}
        assert min(dev, key=lambda other: dev[other]) == amount  # chosen by dev loss
    assert result["first_trial"] == 0 != result["trial"]
    expected = baseline_losses(result, made, split, split.test)
    assert list(found) == list(expected)
    for name, losses in expected.items():
        one = found[name]
        assert one["test_loss"] == pytest.approx(mean(losses, split.test), abs=1e-6)
        differences = [loss - own for loss, own in zip(losses, winner, strict=True)]
        assert one["difference"] == pytest.approx(mean(differences, split.test), abs=1e-6)
        check_interval(one["low"], one["high"], bootstrap_t(differences, split.test))
        adjusted = bootstrap_t(differences, split.test, 1 - 0.05 / 6)
        width = adjusted[1] - adjusted[0]
        assert [one["adjusted_low"], one["adjusted_high"]] == pytest.approx(list(adjusted), abs=0.2 * width)
        assert one["adjusted_low"] < one["low"] < one["high"] < one["adjusted_high"]


def test_the_mean_over_fresh_seeds(result: dict[str, Any], made: Path) -> None:
    split = Split()
    confirming = [run for run in trials(made, "a (confirm)") if run.user_attrs["confirms"] == result["trial"]]
    assert [(run["run_id"], run["seed"], run["weights_digest"]) for run in result["confirming_runs"]] == [
        (run.user_attrs["run_id"], seed, run.user_attrs["weights_digest"])
        for seed in (1, 2, 3)
        for run in confirming
        if run.user_attrs["seed"] == seed
    ]
    losses = [losses_of(made, run["run_id"], split.test) for run in result["confirming_runs"]]
    means = [mean(of_seed, split.test) for of_seed in losses]
    assert result["seeds_test_losses"] == pytest.approx(means, abs=1e-6)
    assert result["seeds_test_loss"] == pytest.approx(np.mean(means), abs=1e-6)
    x, n = by_word(np.mean(losses, axis=0).tolist(), split.test)
    rest = x - x.sum() / n.sum() * n
    over_items = len(x) * np.var(rest, ddof=1) / n.sum() ** 2
    between = np.var(means, ddof=1) / 3
    freedom = (over_items + between) ** 2 / (over_items**2 / (len(x) - 1) + between**2 / 2)
    half = student.ppf(0.975, freedom) * math.sqrt(over_items + between)
    expected = [result["seeds_test_loss"] - half, result["seeds_test_loss"] + half]
    assert [result["seeds_test_loss_low"], result["seeds_test_loss_high"]] == pytest.approx(expected, abs=1e-6)


def test_the_dev_loss_without_the_luck_of_the_choice(result: dict[str, Any], made: Path) -> None:
    split = Split()
    runs = [trial.user_attrs["run_id"] for trial in trials(made)]
    table = np.array([by_word(losses_of(made, run, split.dev), split.dev)[0] for run in runs]).T
    n = by_word([0.0] * len(split.dev), split.dev)[1]
    draw, found, chosen = np.random.default_rng(1), [], np.zeros(3)
    for _ in range(2000):
        drawn = draw.integers(len(n), size=len(n))
        left = np.setdiff1d(np.arange(len(n)), drawn)
        best = table[drawn].sum(0).argmin()
        found.append(table[left, best].sum() / n[left].sum())
        chosen[best] += 1 / 2000
    middle = float(np.mean(found))
    rest = table - np.outer(n, table.sum(0) / n.sum())
    each, together = sum(chosen * (rest**2).sum(0)), ((rest * chosen).sum(1) ** 2).sum()
    half = student.ppf(0.975, len(n) - 1) * math.sqrt((each + together) / 2 * len(n) / (len(n) - 1)) / n.sum()
    ends = middle - half, middle + half
    low, high = result["dev_loss_corrected_low"], result["dev_loss_corrected_high"]
    check_interval(low, high, ends)
    assert result["dev_loss_corrected"] == pytest.approx(middle, abs=0.07 * (high - low))
    assert (result["selection_trials"], result["selection_left_out"]) == (3, 0)


def test_a_sweep_says_in_one_line_what_its_dev_loss_is_without_luck(
    makemore: Makemore, made: Path, study: Path, result: dict[str, Any]
) -> None:
    shutil.copy(made / "made.txt", study)
    answer = makemore(*STUDY)
    low, high = result["dev_loss_corrected_low"], result["dev_loss_corrected_high"]
    figures = f"{result['dev_loss_corrected']:.4f} [{low:.4f}, {high:.4f}]"
    assert f"        best dev loss without the luck of the choice: {figures}\n" in answer.out


def test_of_many_trials_the_best_are_read_and_the_rest_is_said_to_be_left_out(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = parts_of(study)[0]
    monkeypatch.setattr(sweeps.reports.selection, "MOST", 2)
    selection = find_selection(store, read_study(store, "a").trials)
    assert selection is not None
    assert (selection.trials, selection.left_out) == (2, 1)
    assert selection.in_words().endswith("] (among 2 trials, 1 worse ones left out)")
    assert selection.dev_loss == pytest.approx(min(trial.value or 0.0 for trial in trials(study)))


def test_the_claim_declares_how_the_winner_was_found_and_what_dev_says_the_look_can_show(
    result: dict[str, Any], made: Path, looked: Path, makemore: Makemore, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, declared = Split(), result["declared"]
    assert declared["baselines"] == [one["name"] for one in result["baselines"]]
    assert declared["trials"] == 3
    assert declared["dev_evaluations"] == 3 * 2 + 3  # two reports of each trial, and the loss of each that confirms
    assert declared["other_studies"] == 0
    winner = losses_of(made, result["run_id"], split.dev)
    half_width = np.diff(bootstrap_t(winner, split.dev)).item() / 2 * math.sqrt(90 / 90)
    assert declared["half_width"] == pytest.approx(half_width, rel=0.1)
    found = baseline_losses(result, made, split, split.dev)
    strongest = min(found, key=lambda name: mean(found[name], split.dev))
    differences = [loss - own for loss, own in zip(found[strongest], winner, strict=True)]
    assert declared["strongest"] == strongest
    assert declared["dev_difference"] == pytest.approx(mean(differences, split.dev), abs=1e-6)
    error = np.diff(bootstrap_t(differences, split.dev)).item() / 2 / 1.96
    power = 1 - normal.cdf(normal.ppf(1 - 0.025 / 6) - declared["detectable"] / error)
    assert power == pytest.approx(0.8, abs=0.1)
    monkeypatch.chdir(looked)
    text = makemore("final-test", "study.name=a").out
    assert "Searched before: 3 trials; 9 dev losses were reported by them and by the runs that confirmed; " in text
    assert f"an interval of about +- {declared['half_width']:.4f} nats per character." in text
    assert f"a difference of {declared['detectable']:.4f} is the smallest that would be detected" in text


def test_the_report_explains_itself(
    looked: Path, result: dict[str, Any], makemore: Makemore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(looked)
    text = makemore("final-test", "study.name=a").out
    assert text.startswith(f"# Test loss {result['test_loss']:.4f} nats per character (look 1)\n")
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert headings == ["What was looked at", "What the numbers say", "Compared with", "What they do not say"]
    for figure in ("test_loss", "seeds_test_loss", "dev_loss_corrected"):
        low, high = result[f"{figure}_low"], result[f"{figure}_high"]
        assert f"{result[figure]:.4f}" in text
        assert f"95 % interval [{low:.4f}, {high:.4f}] over" in text
    assert f"Claimed by {result['who']} on " in text
    assert "No other look at these words is recorded here." in text
    assert f"The 90 words are {result['units']} independent ones" in text
    for one in result["baselines"]:
        row = next(line for line in text.splitlines() if line.startswith(f"| {one['name']} |"))
        assert f"| {one['difference']:+.4f} | [{one['low']:.4f}, {one['high']:.4f}] |" in row
        verdict = "worse" if one["adjusted_low"] > 0 else "better" if one["adjusted_high"] < 0 else "undecided"
        assert row.endswith(f"| {verdict} |" if verdict == "undecided" else f"| {verdict} than the winner |")
    client = MlflowClient(tracking_uri=f"sqlite:///{looked}/mlruns/mlflow.db")
    [run] = client.search_runs(["1"], "tags.kind = 'final_test'")
    assert Path(client.download_artifacts(run.info.run_id, "report.md")).read_text() == text.removesuffix("\n")
    page = Path(client.download_artifacts(run.info.run_id, "report.html")).read_text()
    assert "<img alt=" in page
    assert "<td>6-gram Kneser-Ney</td>" in page
    assert not re.search(r"(src|href)=.https?:", page)  # it needs no network
    assert run.data.metrics["test_loss_6-gram_Kneser-Ney"] == result["baselines"][4]["test_loss"]
    assert run.data.metrics["seeds_test_loss"] == result["seeds_test_loss"]


CLAIM = {
    **{"study": "a", "trial": 3, "run_id": "r", "config_hash": "c", "weights_digest": "d" * 64, "source": "made_up"},
    **{"split": "disjoint", "split_seed": 42, "split_digest": "e" * 64, "look": 1, "reason": None},
    **{"who": "somebody@somewhere", "when": "2026-01-01T00:00:00Z"},
}
OLD = {
    **{"test_loss": 2.0, "test_loss_low": 1.9, "test_loss_high": 2.1, "words": 100, "characters": 700},
    **{"perplexity": 7.389, "bits_per_character": 2.885, "dev_loss": 1.95, "gap": 0.05, "selection": None},
    **{"words_also_in_train": 0, "test_loss_without_them": 2.0, "attempts": 1},
    "baselines": [
        {
            "name": "4-gram counts",
            "smoothing": 0.1,
            "test_loss": 1.907,
            "difference": -0.093,
            "low": -0.2,
            "high": -0.01,
        }
    ],
}


def test_a_result_of_the_version_before_is_told_and_a_better_baseline_is_called_better() -> None:
    text = as_text(CLAIM, OLD, [])
    assert "4-gram counts is better than the winner: its test loss is 0.0930 lower." in text
    assert "| 4-gram counts | 0.1 | 1.9070 | -0.0930 | [-0.2000, -0.0100] | better than the winner |" in text
    assert "worse by" not in text
    assert "4-gram counts is better than the winner" in as_page(CLAIM, OLD, [])


def test_another_look_is_told_with_its_reason_and_nothing_is_markup() -> None:
    other = Record(1, "claim", {**CLAIM, "study": "b", "reason": "<b>none</b>"}, "h")
    claim = {**CLAIM, "look": 2, "reason": "a bug"}
    assert "This is look 2 at these words (reason: a bug)" in as_text(claim, OLD, [other])
    assert "look 1: study b, by somebody@somewhere on 2026-01-01T00:00:00Z, reason: <b>none</b>" in as_text(
        claim, OLD, [other]
    )
    assert "&lt;b&gt;none" in as_page(claim, OLD, [other])


def test_the_picture_shows_differences_with_intervals_around_zero() -> None:
    axes = draw({**CLAIM, "source": "a $ list $"}, OLD).axes[0]
    assert not axes.patches  # no bars
    segments = [line.get_xdata() for line in axes.lines]
    assert [-0.2, -0.01] in [list(segment) for segment in segments]
    assert axes.get_xlim()[0] < -0.2
    assert "right of 0, the winner is better" in axes.get_xlabel()
    alone = draw(CLAIM, {**OLD, "baselines": []}).axes[0]
    assert [1.9, 2.1] in [list(line.get_xdata()) for line in alone.lines]


@pytest.mark.parametrize(
    ("items", "message", "has_interval"),
    [
        (60, "There is no interval: 6 independent points are too few; it takes at least 10.", False),
        (150, "The intervals are rough: 15 independent points are few", True),
    ],
)
def test_a_small_test_split_has_no_interval_or_a_warning(
    makemore: Makemore, workdir: Path, items: int, message: str, has_interval: bool
) -> None:
    task = ("task=sized", "task.level=1.0,2.0", f"task.items={items}")
    assert makemore("sweep", *FAKE, *task, "study.confirm.top=0", "study.workers=1", "study.name=a").code == 0
    compared = makemore("compare", "study.name=a", "baseline=0").out
    assert ("There are no intervals: they take at least 10 distinct dev items." in compared) != has_interval
    answer = makemore("final-test", *FAKE[:2], "study.name=a", "final_test.confirm=true")
    assert answer.code == 0, answer.err
    assert message in answer.out
    assert ("95 % interval [" in answer.out) == has_interval
    assert ("oracle ($5) is better than the winner: its test loss is 0.5000 lower." in answer.out) == has_interval
    assert "- impossible is not compared: its loss is infinite." in answer.out
    assert "not yet copied" not in answer.err
    [run] = MlflowClient(f"sqlite:///{workdir}/mlruns/mlflow.db").search_runs(["1"], "tags.kind = 'final_test'")
    assert run.data.metrics["test_loss_oracle___5_"] == pytest.approx(run.data.metrics["test_loss"] - 0.5)


def test_a_winner_without_a_finite_test_loss_spends_the_look_and_says_so(makemore: Makemore, workdir: Path) -> None:
    task = ("task=unbounded", "task.level=1.0,2.0", "study.confirm.top=0", "study.workers=1", "study.name=a")
    assert makemore("sweep", *FAKE, *task).code == 0
    command = ("final-test", *FAKE[:2], "study.name=a", "final_test.confirm=true")
    answer = makemore(*command)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("# Test loss infinite or NaN (look 1)\n")
    assert "on at least one of the points is infinite or NaN" in answer.out
    assert "not yet copied" not in answer.err
    again = makemore(*command)
    assert (again.code, again.out) == (3, answer.out)
    looks = makemore("looks", *FAKE[:2])
    assert (looks.code, looks.out.count("the chain of hashes is intact")) == (0, 1)


def test_groups_of_items_are_resampled_together(makemore: Makemore, workdir: Path) -> None:
    words = ("task=houses", "task.level=1.0,2.0", "study.confirm.top=0", "study.workers=1", "study.name=a")
    assert makemore("sweep", *FAKE, *words).code == 0
    answer = makemore("final-test", *FAKE[:2], "study.name=a", "final_test.confirm=true")
    assert "The 30 flats are 6 independent ones" in answer.out
    assert "There is no interval: 6 independent flats are too few" in answer.out


def test_the_gap_is_that_of_the_weights_where_a_trial_is_a_mean_over_seeds(makemore: Makemore, workdir: Path) -> None:
    words = ("task=seeded", "task.level=1,2", "study.seeds=3", "study.confirm.top=0", "study.workers=1", "study.name=a")
    assert makemore("sweep", *FAKE, *words).code == 0
    answer = makemore(LOOK[0], *FAKE[:2], *LOOK[1:])
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    run = MlflowClient(f"sqlite:///{workdir}/mlruns/mlflow.db").get_run(result["run_id"])
    dev_loss = run.data.metrics["weights_dev_loss"]
    assert result["gap"] == pytest.approx(result["test_loss"] - dev_loss)
    assert dev_loss < result["dev_loss"] - 0.001


def parts_of(folder: Path) -> tuple[Any, Any, Any]:
    tracking = {"uri": "sqlite:///mlruns/mlflow.db", "experiment": "makemore", "artifacts": "mlruns/artifacts"}
    store = open_tracking(OmegaConf.create({"tracking": tracking}), create=False)
    url = f"sqlite:///{folder}/mlruns/study.db"
    return store, open_trials("a", url, create=False), find_trials("a (confirm)", url)


def test_the_evaluation_of_handed_items_reads_no_file(
    makemore: Makemore, made: Path, study: Path, result: dict[str, Any]
) -> None:
    store, found, confirm = parts_of(study)
    candidate = find_candidate(store, found, confirm)
    beside = find_beside(store, candidate)
    items = read_test_items(read_words(made / "made.txt"), "lecture", 42)
    hidden = [made / "made.txt", made / "mlruns/artifacts"]
    for path in hidden:
        path.rename(path.with_name("hidden-" + path.name))
    try:
        again = evaluate(candidate, beside, items)
    finally:
        for path in hidden:
            path.with_name("hidden-" + path.name).rename(path)
    assert again == {key: result[key] for key in again}
    second = evaluate(candidate, beside, items, look=2)
    losses = losses_of(made, result["run_id"], items)
    expected = bootstrap_t(losses, items, 1 - 0.05 / 2)
    check_interval(second["test_loss_widened_low"], second["test_loss_widened_high"], expected)
    assert second["test_loss_low"] == result["test_loss_low"] > second["test_loss_widened_low"]
    for one, before in zip(second["baselines"], result["baselines"], strict=True):
        assert one["adjusted_low"] < before["adjusted_low"] < before["adjusted_high"] < one["adjusted_high"]
    claim = {**CLAIM, "look": 2}
    text = as_text(claim, {**result, **second}, [Record(1, "claim", {**CLAIM, "study": "b"}, "h")])
    low, high = second["test_loss_widened_low"], second["test_loss_widened_high"]
    assert f"Allowing for 2 looks, 95 % interval [{low:.4f}, {high:.4f}] over words: as wide as each" in text
    assert "are as wide as 12 comparisons need to be right together, 6 at each of 2 looks (Bonferroni)" in text


def test_what_a_look_can_show_depends_on_its_number_of_items_and_on_earlier_looks(study: Path) -> None:
    store, found, confirm = parts_of(study)
    candidate = find_candidate(store, found, confirm)
    beside = find_beside(store, candidate)
    first = declare(candidate, beside, found, confirm, look=1)
    second = declare(candidate, beside, found, confirm, look=2)
    assert second.half_width == first.half_width
    assert first.detectable is not None
    assert second.detectable is not None
    assert first.detectable < second.detectable < 1.3 * first.detectable
    more = replace(candidate, everything=(*candidate.everything, *["word"] * 270))  # four times as many test items
    larger = declare(more, beside, found, confirm, look=1)
    assert first.half_width is not None
    assert larger.half_width == pytest.approx(first.half_width / 2)
    assert larger.detectable == pytest.approx(first.detectable / 2)
    fewer = replace(candidate, everything=candidate.everything[: -90 + 9])
    assert declare(fewer, beside, found, confirm, look=1).half_width is None


def test_a_run_that_confirmed_must_have_its_recorded_weights(makemore: Makemore, made: Path, study: Path) -> None:
    _, _, confirm = parts_of(study)
    winner = trials(study, "a (confirm)")[0].user_attrs["confirms"]
    runs = confirming_runs(confirm.standing(), winner)
    assert [run["seed"] for run in runs] == [1, 2, 3]
    path = artifacts(made, runs[1]["run_id"]) / "weights.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-4] + b"\0\0\0\1")
        answer = makemore(*LOOK)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert f"the weights of run {runs[1]['run_id']} are not those that were recorded: altered since" in answer.err
        path.unlink()
        assert "has no weights.safetensors" in makemore(*LOOK).err
    finally:
        path.write_bytes(content)
    assert makemore("looks").out == "no test split has been looked at\n"


def test_a_claim_fixes_the_runs_that_confirmed(
    makemore: Makemore, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*arguments: object) -> None:
        raise OSError("the machine is down")

    look = (*LOOK, "looks.ledger=null")
    with monkeypatch.context() as patch:
        patch.setattr(sweeps.look.evaluation, "evaluate", die)
        assert makemore(*look).code == 1

    def rewrite(change: Callable[[dict[str, Any]], None]) -> None:
        with closing(sqlite3.connect(study / "mlruns/study.db")) as database, database:
            [(text,)] = database.execute("select record from looks where number = 1").fetchall()
            record = json.loads(text)
            change(record)
            database.execute("update looks set record = ? where number = 1", (json.dumps(record),))

    rewrite(lambda record: record["confirming_runs"][0].update(weights_digest="0" * 64))
    refused = makemore(*look)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "its look was claimed for confirming_runs " in refused.err
    rewrite(lambda record: record.pop("confirming_runs"))  # as in a claim of the version before
    assert makemore(*look).code == 0


def test_without_the_first_settings_weights_the_look_goes_on_and_says_so(
    makemore: Makemore, made: Path, study: Path
) -> None:
    path = artifacts(made, trials(study)[0].user_attrs["run_id"]) / "weights.safetensors"
    content = path.read_bytes()
    try:
        path.unlink()
        answer = makemore(*LOOK[:-1])
    finally:
        path.write_bytes(content)
    assert answer.code == 0, answer.err
    assert "- Trial 0, the first setting, is not compared: run " in answer.out
    assert "| trial 0 |" not in answer.out


def test_equal_words_are_resampled_together_in_a_comparison_too(makemore: Makemore, made: Path, study: Path) -> None:
    split = Split()
    baseline, other = trials(study)[0], trials(study)[1]
    answer = makemore("compare", "study.name=a", "baseline=0", "format=json")
    [row] = [row for row in json.loads(answer.out) if row["trial"] == 1]
    theirs, own = (losses_of(made, trial.user_attrs["run_id"], split.dev) for trial in (baseline, other))
    differences = [loss - before for loss, before in zip(own, theirs, strict=True)]
    assert len(set(split.dev)) < len(split.dev)
    check_interval(row["difference_low"], row["difference_high"], bootstrap_t(differences, split.dev))
