"""A winner as MLflow loads it: `mlflow.pyfunc.load_model("models:/makemore-given_names@champion")`.

Nothing is pickled: MLflow keeps this file beside the weights and runs it when it loads the model.
"""

from pathlib import Path

import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from makemore.train import generator_for, one_thread
from sweeps.task.language_model.weights import load_weights


class NextCharacter(PythonModel):
    """The next character after a context, or whole words that begin with it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights."""
        self._saved = load_weights(Path(context.artifacts["weights"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, float] | None = None
    ) -> pd.DataFrame:
        """The probability of each next character after each context; or, with `n`, words that begin with the contexts.

        Args:
            model_input: a column `context` with beginnings of words; every word begins with the empty text. A missing
                value is the empty text, as a CSV file has it.
            params: `n` above 0 asks for that many words per context, drawn with `temperature` and `seed`.

        Returns:
            One row per context and one column per character, the boundary among them; or with `n` the columns context
            and word.

        Raises:
            ValueError: a character that the model does not know.
        """
        options = params or {}
        contexts = ["" if pd.isna(text) else str(text) for text in model_input["context"]]  # as in a CSV file
        n, seed = int(options.get("n", 0)), int(options.get("seed", 0))
        with one_thread():
            if n:
                return self._words(contexts, n, options.get("temperature", 1.0), seed)
            return self._probabilities(contexts)

    def _words(self, contexts: list[str], n: int, temperature: float, seed: int) -> pd.DataFrame:
        generator = generator_for(seed, "samples")
        rows = [
            {"context": text, "word": word}
            for text in contexts
            for word in self._saved.draw_words(n, temperature, generator, prefix=text)
        ]
        return pd.DataFrame(rows)

    @torch.no_grad()
    def _probabilities(self, contexts: list[str]) -> pd.DataFrame:
        alphabet, block_size = self._saved.alphabet, self._saved.config.block_size
        for character in "".join(contexts):
            if character not in alphabet.characters:
                raise ValueError(f"the character {character!r} is not one of {alphabet.characters}")
        tokens = [[0] * block_size + [alphabet.stoi[character] for character in text] for text in contexts]
        x = torch.tensor([row[-block_size:] for row in tokens])
        logits = self._saved.config.next_logits(self._saved.module, x)
        return pd.DataFrame(torch.softmax(logits.double(), dim=1).numpy(), columns=list(alphabet.itos))


set_model(NextCharacter())
