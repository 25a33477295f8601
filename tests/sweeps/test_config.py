from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from sweeps.config.files import conf_dir
from sweeps.errors import RequestError
from sweeps.task.run_config import read_run_config


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def config(*overrides: str) -> DictConfig:
    return compose("config", overrides=list(overrides), return_hydra_config=False)


def test_every_file_of_the_tree_composes_into_a_run() -> None:
    composed = 0
    for path in sorted(conf_dir().rglob("*.yaml")):
        relative = path.relative_to(conf_dir())
        if relative.parts[0] == "hydra":
            overrides = [f"hydra/{relative.parts[1]}={path.stem}"]
        elif len(relative.parts) == 2:
            overrides = [f"{relative.parts[0]}={path.stem}"]
        else:  # the primary configs and what they share
            assert compose(path.stem, return_hydra_config=True)
            composed += 1
            continue
        extra = ["data.path=towns.txt"] if path.stem == "file" else []
        read_run_config(config(*overrides, *extra))
        composed += 1
    assert composed == 51


def test_a_space_says_how_its_trials_train() -> None:
    assert (config("space=mlp").train.steps, config("space=mlp").train.targets) == (6000, "kneser_ney")
    assert (config("space=lecture").train.steps, config("space=lecture").train.targets) == (20000, "sampled")
    assert config("space=mlp", "train.steps=7").train.steps == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.block_size=0", "model.block_size is 0; it must be >= 1 and <= 64"),
        ("model.block_size=3.5", "model.block_size is 3.5; it must be an integer"),
        ("model.block_size=true", "model.block_size is True; it must be an integer"),
        ("model.hidden_neurons=many", "model.hidden_neurons is 'many'; it must be an integer"),
        ("model.dropout=-0.1", "model.dropout is -0.1; it must be >= 0 and <= 0.99"),
        ("train.batch_size=-1", "train.batch_size is -1; it must be >= 1"),
        ("train.evaluations=9999999", "train.evaluations is 9999999; it must be >= 1 and <= 2000"),
        ("train.targets=best", "train.targets is best; it must be sampled or distribution or kneser_ney"),
        (
            "schedule.lr=nan",
            "schedule.lr is nan; it must be > 0 and finite (conf/schedule/cosine.yaml has the default)",
        ),
        ("schedule.lr=-0.1", "schedule.lr is -0.1; it must be > 0"),
        ("schedule.warmup=1.0", "schedule.warmup is 1.0; it must be >= 0 and < 1"),
        ("optimizer.beta1=1", "optimizer.beta1 is 1.0; it must be >= 0 and < 1"),
        ("optimizer.weight_decay=null", "optimizer.weight_decay is None; it must be a number"),
        ("+model.layers=2", "model.layers is not a key of model=mlp; it must be block_size"),
        ("model.direct=1", "model.direct is 1; it must be true or false"),
        ("seed=-1", "seed is -1; it must be >= 0"),
        ("device=tpu", "device is tpu; it must be cpu or cuda"),
        ("data.split=random", "data.split is random; it must be lecture or disjoint"),
        ("model.dropout=0.995", "model.dropout is 0.995; it must be >= 0 and <= 0.99"),
        ("data.boundary=ab", "data.boundary is 'ab'; it must be one character, not a space"),
        ("data=file", "data.path is not given"),
    ],
)
def test_a_bad_value_is_named_with_its_limit(override: str, message: str) -> None:
    with pytest.raises(RequestError) as error:
        read_run_config(config(override))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_decay_point_outside_the_run_is_named() -> None:
    with pytest.raises(RequestError, match=r"schedule\.decay_at is 1\.5; it must be > 0 and <= 1 \(conf/schedule/step"):
        read_run_config(config("schedule=step", "schedule.decay_at=1.5"))


def test_params_are_flat_and_spelled_as_on_the_command_line() -> None:
    params = read_run_config(config("schedule=step", "model.block_size=5")).params()
    expected = {"data": "given_names", "data.split": "disjoint", "model": "mlp", "model.block_size": 5}
    expected |= {"optimizer": "adamw", "schedule": "step", "schedule.lr": 0.1, "train.batch_size": 64, "seed": 0}
    assert expected.items() <= params.items()


def test_counts_have_no_params_of_training_and_their_digest_does_not_know_them() -> None:
    counted = read_run_config(config("model=ngram", "model.smoothing=0.5"))
    keys = {key.partition(".")[0] for key in counted.params()}
    assert keys == {"data", "model", "seed"}
    assert counted.params()["model"] == "ngram"
    assert counted.params()["model.smoothing"] == 0.5
    trained = ("optimizer=sgd", "schedule=step", "train.steps=7", "train.evaluations=7")
    assert read_run_config(config("model=ngram", "model.smoothing=0.5", *trained)).digest() == counted.digest()
    assert read_run_config(config("model=ngram", "model.smoothing=0.6")).digest() != counted.digest()


def test_the_digest_tells_runs_apart_but_not_paths(tmp_path: Path) -> None:
    digests = {
        read_run_config(config(*overrides)).digest()
        for overrides in ([], ["seed=1"], ["schedule.lr=0.1"], ["schedule=constant"], ["data.split_seed=1"])
    }
    assert len(digests) == 5
    here, there = (read_run_config(config("data=file", f"data.path={name}")) for name in ("a.txt", "b.txt"))
    assert here.digest() == there.digest()
    without_seed = {read_run_config(config(f"seed={seed}")).digest(without=("seed",)) for seed in (0, 1)}
    assert len(without_seed) == 1
