"""The shipped task: a character-level language model on a list of words, with a word on each line."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from makemore.corpus import Corpus, corpus_of
from makemore.data import Alphabet
from makemore.diagnosis import Finding, Signs, diagnose, examine
from makemore.evaluate import mean_loss
from makemore.limits import LimitError
from makemore.model import ModelConfig
from makemore.ngram import Ngram, NgramConfig
from makemore.optimizer import OPTIMIZERS, Optimizer
from makemore.schedule import SCHEDULES, Schedule
from makemore.train import TrainConfig, TrainResult, generator_for, one_thread
from sweeps.errors import RequestError
from sweeps.task.language_model.sources import DataConfig, WordList, load_words, remarks_on
from sweeps.task.language_model.trained import TrainedModel
from sweeps.task.language_model.weights import load_weights, save_weights
from sweeps.task.task import Baseline, Description, Report, Task, Trained, resumed_state

DEVICES = ("cpu", "cuda")
_SAMPLES = 20  # words that are drawn from each trained model
_SMOOTHING = [10 ** (power / 8) for power in range(-24, 17)]  # values for a baseline, tried on dev: from 0.001 to 100
_DISCOUNTS = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
# The counted models that serve as baselines, each with the amounts of smoothing that are tried on dev.
_COUNTED = {
    **{
        f"{order}-gram counts": [NgramConfig(order, "additive", smoothing, discount=0.0) for smoothing in _SMOOTHING]
        for order in (2, 3, 4)
    },
    "6-gram Kneser-Ney": [NgramConfig(6, "kneser_ney", smoothing=0.0, discount=discount) for discount in _DISCOUNTS],
}


@dataclass(frozen=True)
class LanguageModel(Task):
    """Everything that decides the weights of a language model, except the split and the seed."""

    data: DataConfig
    model_name: str
    model: ModelConfig
    optimizer: Optimizer
    schedule: Schedule
    training: TrainConfig
    device: str

    item: ClassVar[str] = "word"
    term: ClassVar[str] = "character"
    unit: ClassVar[str] = "nats per character"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise LimitError("device", self.device, " or ".join(DEVICES))
        if self.device == "cuda" and not _has_cuda():
            raise RequestError("device is cuda, but torch finds no CUDA device here; leave out device=cuda")

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """The number of evaluations of dev in a run."""
        return self.model.evaluations(self.training)

    @property
    def alphabet(self) -> Alphabet:
        """The characters of the whole list, including dev and test words, as in the lectures."""
        return self._words().alphabet

    def _words(self) -> WordList:
        return load_words(self.data)

    def read(self) -> Sequence[str]:
        """The words of the list, in the list's order."""
        return self._words().words

    def source(self) -> tuple[str, Path]:
        """The name of the list, which for a user's own is its file's name, and its file."""
        path = self._words().path
        return path.name if self.data.name == "file" else self.data.name, path

    def remarks(self, dev: Sequence[str]) -> Sequence[str]:
        """What is odd about a user's file: a table, a header, mixed Unicode forms, too few words."""
        return remarks_on(self._words(), len(dev)) if self.data.name == "file" else ()

    def build(self) -> nn.Module:
        """An untrained module."""
        return self.model.new(self.alphabet.vocab_size, seed=0)

    def check(self) -> None:
        """Raise ModelError if the module does not predict the next character."""
        self.model.check(self.alphabet.vocab_size)

    def params(self) -> dict[str, Any]:
        """The keys of data, model and training with their values, without the keys that have no effect on the model."""
        groups: list[tuple[str, str, Any]] = [
            ("data", self.data.name, self.data),
            ("model", self.model_name, self.model),
        ]
        if not self.model.counted:
            groups += [
                ("optimizer", _name_of(OPTIMIZERS, self.optimizer), self.optimizer),
                ("schedule", _name_of(SCHEDULES, self.schedule), self.schedule),
                ("train", "", self.training),
            ]
        params: dict[str, Any] = {}
        for group, name, config in groups:
            fields = dataclasses.asdict(config)
            params |= {group: name} if name else {}
            params |= {f"{group}.{key}": value for key, value in fields.items() if key != "name"}
        return params if self.model.counted else {**params, "device": self.device}

    def parameters(self) -> int:
        """The number of trainable weights in the model.

        Raises:
            RequestError: the model is counted, so its size depends on the words.
        """
        if self.model.counted:
            raise RequestError(
                f"space.constraints.parameters must be null with model={self.model_name}: the size of a counted model "
                "depends on the words"
            )
        return self.model.parameters(self.alphabet.vocab_size)

    def corpus(self, train: Sequence[str], dev: Sequence[str]) -> Corpus:
        """The train and dev words as the trainer uses them; a process builds them once for each block size."""
        return _corpus(tuple(train), tuple(dev), self.alphabet, self.model.block_size)

    def train(self, train: Sequence[str], dev: Sequence[str], seed: int, report: Report) -> TrainedModel:
        """A trained model with the weights of its best evaluation.

        Raises:
            Diverged: a loss is NaN, infinite or far worse than guessing.
        """
        corpus, curve = self.corpus(train, dev), []  # type: ignore[var-annotated]
        state: Callable[[], dict[str, Any]] | None = None

        def offer(make_state: Callable[[], dict[str, Any]]) -> None:
            nonlocal state
            state = make_state

        def track(step: int, dev_loss: float) -> None:
            point = curve[-1]
            metrics = {"train_loss": point.train_loss} | ({} if point.lr is None else {"lr": point.lr})
            report(step, dev_loss, state=state, **metrics)

        result = self.model.fit(
            corpus,
            self.optimizer,
            self.schedule,
            self.training,
            seed,
            self.device,
            report=track,
            curve=curve,
            start=resumed_state(report),
            offer=offer,
        )
        metrics = {
            "best_step": result.best_step,
            "train_seconds": result.train_seconds,
            "evaluation_seconds": result.evaluation_seconds,
            "steps_per_second": result.steps_per_second,
            "parameters": result.parameters,
        }
        return TrainedModel(
            result.model,
            metrics,
            name=self.model_name,
            config=self.model,
            alphabet=corpus.alphabet,
            result=result,
            curve=curve,
            corpus=corpus,
        )

    def losses(self, trained: Trained, items: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Each word's negative log-likelihood in nats, and its number of characters plus the boundary; (n,) float64."""
        model = _language_model(trained)
        return model.config.word_losses(model.module, items, model.alphabet)

    def save(self, trained: Trained, path: Path, train_fingerprint: str) -> str:
        """The digest of the weights, after writing them with the model's config and alphabet."""
        return save_weights(path, _language_model(trained), train_fingerprint)

    def load(self, path: Path) -> TrainedModel:
        """The trained model from weights that `save` wrote."""
        return load_weights(path)

    def describe(self, trained: Trained, dev_loss: float, seed: int) -> Description:
        """The train loss, its gap to the dev loss, the findings of the diagnosis, and new words."""
        model = _language_model(trained)
        assert model.corpus is not None  # it has just been trained
        assert model.result is not None
        signs = examine(model.config, model.module, model.corpus, dev_loss)
        findings = diagnose(model.curve, signs)
        words = self.sample(trained, _SAMPLES, temperature=1.0, seed=seed, prefix="")
        return Description(
            metrics={"best_train_loss": signs.train_loss, "gap": signs.gap},
            tags={"diagnosis": ", ".join(finding.name for finding in findings) or "nothing stands out"},
            note=_note(model.result, signs, findings, words),
            remarks=[_how_trained(model), *(f"{finding.name}: {finding.text}" for finding in findings)],
            files={"samples.txt": "\n".join(words) + "\n"},
        )

    def draw(self, trained: Trained, curve: Sequence[Mapping[str, float]], folder: Path) -> None:
        """Draw the loss curve and, if the model has an embedding, the embedding."""
        from sweeps.task.language_model.pictures import draw_curve, draw_embedding  # Matplotlib takes long to import

        model = _language_model(trained)
        draw_curve(curve, folder / "loss_curve.png")
        embedding = model.config.embedding(model.module)
        if embedding is not None:
            draw_embedding(embedding, model.alphabet, folder / "embedding.png")

    def sample(self, trained: Trained, n: int, temperature: float, seed: int, prefix: str) -> list[str]:
        """`n` new words, each beginning with the prefix.

        Raises:
            RequestError: a character of the prefix is not in the alphabet.
        """
        model = _language_model(trained)
        for character in prefix:
            if character not in model.alphabet.characters:
                raise RequestError(
                    f"prefix is {prefix}; {character} is not in the model's alphabet {model.alphabet.characters}"
                )
        with one_thread():
            return model.draw_words(n, temperature, generator_for(seed, "samples"), prefix)

    def baselines_for(
        self, trained: Trained, train: Sequence[str], dev: Sequence[str], items: Sequence[str]
    ) -> list[Baseline]:
        """Uniform guessing, and counted n-grams with the smoothing that is best on dev; over the model's alphabet."""
        alphabet = _language_model(trained).alphabet
        characters = torch.tensor([len(word) + 1 for word in items], dtype=torch.float64)
        compared = [Baseline("uniform", characters * math.log(alphabet.vocab_size))]
        for name, configs in _COUNTED.items():
            corpus = _corpus(tuple(train), tuple(dev), alphabet, configs[0].block_size)
            models = (Ngram.fit(config, corpus.train_contexts) for config in configs)
            best = min(models, key=lambda model: mean_loss(model, corpus.dev_contexts))
            losses, _ = best.config.word_losses(best, items, alphabet)
            compared.append(Baseline(name, losses, best.config.amount[1]))
        return compared

    def other_units(self, loss: float) -> dict[str, float]:
        """The perplexity and the bits per character of a loss in nats per character."""
        return {"perplexity": math.exp(loss), "bits_per_character": loss / math.log(2)}

    def why_no_look(self, trained: Trained) -> str:
        """Why the test loss might be infinite: counts without smoothing may give a test character probability zero."""
        key = _language_model(trained).config.unsmoothed_key
        return f"its winner's model.{key} is 0, so that its test loss may be infinite" if key else ""


def _language_model(trained: Trained) -> TrainedModel:
    if not isinstance(trained, TrainedModel):
        raise TypeError(f"a language model is needed, not {type(trained).__name__}")
    return trained


@functools.lru_cache(maxsize=16)
def _corpus(train: tuple[str, ...], dev: tuple[str, ...], alphabet: Alphabet, block_size: int) -> Corpus:
    return corpus_of(train, dev, alphabet, block_size)


@functools.cache
def _has_cuda() -> bool:
    return torch.cuda.is_available()


def _name_of(table: Mapping[str, type], value: object) -> str:
    """The name that a table of classes gives to the class of a value."""
    return next(name for name, kind in table.items() if kind is type(value))


def _how_trained(model: TrainedModel) -> str:
    result = model.result
    assert result is not None
    if model.config.counted:
        return f"{result.parameters} probabilities counted in {result.train_seconds:.2f} s"
    return (
        f"best at step {result.best_step}; {result.parameters} weights, {result.train_seconds:.1f} s at "
        f"{result.steps_per_second:.0f} steps/s"
    )


def _note(result: TrainResult, signs: Signs, findings: Sequence[Finding], words: Sequence[str]) -> str:
    """The description of a finished run in MLflow's UI, in Markdown."""
    return "\n".join(
        [
            f"Dev loss **{signs.dev_loss:.4f}**, train {signs.train_loss:.4f} (nats per character); "
            f"{result.parameters} weights, {result.train_seconds:.1f} s of training, best at step {result.best_step}.",
            "",
            *([f"- **{finding.name}**: {finding.text}" for finding in findings] or ["Nothing stands out."]),
            "",
            "New words: " + ", ".join(words[:10]),
        ]
    )
