"""The door where Hydra's configuration ends: a composed config becomes frozen dataclasses, checked, once."""

import dataclasses
import difflib
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch
import yaml
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from makemore.data import SPLIT_RULES
from makemore.limits import LimitError, check
from makemore.model import MLPConfig
from makemore.ngram import NgramConfig
from makemore.optimizer import OPTIMIZERS, Optimizer
from makemore.schedule import SCHEDULES, Schedule
from makemore.train import TrainConfig
from sweeps.errors import RequestError

ModelConfig = MLPConfig | NgramConfig
MODELS: dict[str, type[ModelConfig]] = {"mlp": MLPConfig, "ngram": NgramConfig}
DEVICES = ("cpu", "cuda")
RUN_KEYS = ("data", "model", "optimizer", "schedule", "train", "seed", "device")
_CHOSEN = ("data", "model", "optimizer", "schedule")  # groups of RUN_KEYS; `name` is which file of the group
_ROOT_KEYS = (*RUN_KEYS, "study", "sampler", "pruner", "space", "tracking", "lr_find", "ladder", "format", "hydra")


@dataclass(frozen=True)
class DataConfig:
    """Which list of words, and how it is split."""

    name: str
    path: str | None
    split: str
    split_seed: int
    boundary: str

    def __post_init__(self) -> None:
        if self.split not in SPLIT_RULES:
            raise LimitError("split", self.split, " or ".join(SPLIT_RULES))
        check("split_seed", self.split_seed, low=0, high=2**63 - 1)
        if self.path is not None and self.name != "file":
            raise LimitError("path", self.path, "null, or belong to data=file")
        if len(self.boundary) != 1 or self.boundary.isspace():
            raise LimitError("boundary", repr(self.boundary), "one character, not a space")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's weights; of a model that is counted, `data` and `model` alone do."""

    data: DataConfig
    model: ModelConfig
    optimizer: Optimizer
    schedule: Schedule
    train: TrainConfig
    seed: int
    device: str

    @property
    def evaluations(self) -> int:
        """Of the dev split, in the whole run."""
        return 1 if isinstance(self.model, NgramConfig) else self.train.evaluations

    def params(self) -> dict[str, Any]:
        """Flat dotted keys, spelled as on the command line: {"model": "mlp", "model.block_size": 3, ...}.

        Those that say nothing to the model are left out; the seed always draws the samples.
        """
        groups = [("data", self.data.name), ("model", name_of(MODELS, self.model))]
        rest: dict[str, Any] = {"seed": self.seed}
        if not isinstance(self.model, NgramConfig):
            groups += [
                ("optimizer", name_of(OPTIMIZERS, self.optimizer)),
                ("schedule", name_of(SCHEDULES, self.schedule)),
                ("train", ""),
            ]
            rest |= {"device": self.device}
        params: dict[str, Any] = {}
        for group, name in groups:
            fields = dataclasses.asdict(getattr(self, group))
            params |= {group: name} if name else {}
            params |= {f"{group}.{key}": value for key, value in fields.items() if key != "name"}
        return params | rest

    def digest(self, without: tuple[str, ...] = ()) -> str:
        """Identity of the run: a hash of its resolved params, paths left out (12 hex digits)."""
        kept = {key: value for key, value in self.params().items() if key not in ("data.path", *without)}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def read_run_config(cfg: DictConfig) -> RunConfig:
    """The checked run of a composed config.

    Raises:
        RequestError: an unknown key, a wrong type or a value outside its range.
    """
    for key in map(str, cfg):
        if key not in _ROOT_KEYS:
            raise RequestError(f"{key} is not a key; there are {', '.join(_ROOT_KEYS)}")
    run = RunConfig(
        data=read_node(DataConfig, cfg, "data"),
        model=_read_named(MODELS, cfg, "model"),
        optimizer=_read_named(OPTIMIZERS, cfg, "optimizer"),
        schedule=_read_named(SCHEDULES, cfg, "schedule"),
        train=read_node(TrainConfig, cfg, "train"),
        seed=_convert(int, "seed", cfg.seed),
        device=_convert(str, "device", cfg.device),
    )
    with _named(""):
        check("seed", run.seed, low=0, high=2**63 - 1)
    if run.device not in DEVICES:
        raise RequestError(f"device is {run.device}; it must be {' or '.join(DEVICES)}")
    if run.device == "cuda" and not _has_cuda():
        raise RequestError("device is cuda, but torch finds no CUDA device here; leave out device=cuda")
    return run


def name_of(table: Mapping[str, type], value: object) -> str:
    """The name under which a table of kinds has the kind of `value`."""
    return next(name for name, kind in table.items() if kind is type(value))


@functools.cache
def _has_cuda() -> bool:
    return torch.cuda.is_available()


def read_node(kind: type, cfg: DictConfig, group: str) -> Any:
    """A checked dataclass from the config node `group`, or of the keys at the root where `group` is empty.

    Raises:
        RequestError: an unknown or missing key, a wrong type or a value outside its range.
    """
    if group:
        return _build(kind, group, _container(cfg, group))
    keys = [key for key in get_type_hints(kind) if key in cfg]
    values = {key: OmegaConf.select(cfg, key) for key in keys}
    values |= {key: _container(cfg, key) for key in keys if OmegaConf.is_dict(values[key])}
    values |= {key: OmegaConf.to_container(value) for key, value in values.items() if OmegaConf.is_list(value)}
    return _build(kind, "", values)


def _read_named(table: dict[str, Any], cfg: DictConfig, group: str) -> Any:
    tree = _container(cfg, group)
    name = tree.pop("name", None)
    if name not in table:
        raise RequestError(f"{group}.name is {name}; it must be {' or '.join(table)}: choose with {group}=...")
    return _build(table[name], group, tree, name)


def _container(cfg: DictConfig, group: str) -> dict[str, Any]:
    node = OmegaConf.select(cfg, group)
    if not isinstance(node, DictConfig):
        raise RequestError(f"{group} is {node!r}; it must be a group of keys: see makemore train --cfg job")
    try:
        tree = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise RequestError(f"{error.full_key} is not given; {error.full_key}=... is needed here") from None
    except OmegaConfBaseException as error:
        raise RequestError(one_line(error)) from None
    return dict(tree)  # type: ignore[arg-type]


def _build(kind: type, group: str, tree: dict[str, Any], name: str = "") -> Any:
    """A checked dataclass from a config node of the same keys.

    Raises:
        RequestError: an unknown or missing key, a wrong type or a value outside its range.
    """
    types = get_type_hints(kind)
    place = f"{group}={name}" if name else group
    prefix = f"{group}." if group else ""
    for key in tree:
        if key not in types:
            raise RequestError(f"{prefix}{key} is not a key of {place}; {_any_of(key, list(types))}")
    for key in types:
        if key not in tree:
            raise RequestError(f"{prefix}{key} is missing; {place} has {', '.join(types)}")
    values = {key: _convert(types[key], f"{prefix}{key}", tree[key]) for key in types}
    with _named(group, f" (conf/{group}/{name}.yaml has the default)" if name else ""):
        return kind(**values)


def _convert(kind: Any, key: str, value: Any) -> Any:
    """`value` as an int, float, str or their optional forms; no silent conversion but int to float."""
    if get_origin(kind) in (dict, list):
        if isinstance(value, get_origin(kind)):
            return value
        raise RequestError(
            f"{key} is {value!r}; it must be a {'list' if get_origin(kind) is list else 'group of keys'}"
        )
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(value, dict):
            return _build(kind, key, value)
        raise RequestError(f"{key} is {value!r}; it must be a group of keys")
    kinds = get_args(kind) or (kind,)
    if value is None and type(None) in kinds:
        return None
    for one in kinds:
        if type(value) is one or (one is float and type(value) is int):
            return one(value)
    if kinds == (str,) and type(value) is int:  # a name of digits, as Hydra reads it
        return str(value)
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    raise RequestError(f"{key} is {value!r}; it must be {' or '.join(names[one] for one in kinds)}")


@contextmanager
def _named(group: str, where: str = "") -> Iterator[None]:
    """Turns a LimitError inside into a RequestError that gives the key its group."""
    try:
        yield
    except LimitError as error:
        prefix = f"{group}." if group else ""
        raise RequestError(f"{prefix}{error}{where}") from None


def is_study_name(name: str) -> bool:
    """Whether `name` can be a folder, an override and part of a query without quotes."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) is not None


def check_study_name(name: str, given: str = "study.name is") -> None:
    """Raise RequestError unless `is_study_name`."""
    if not is_study_name(name):
        raise RequestError(f"{given} {name!r}; it must be 1 to 100 of a-z, A-Z, 0-9, '.', '_' and '-'")


def check_output(key: str, file: str | None, suffix: str = "") -> None:
    """Raise LimitError unless `file` is None, or can be a file that ends on `suffix`."""
    if file is not None:
        path = Path(file)
        if not path.name.endswith(suffix) or not path.absolute().parent.is_dir() or path.is_dir():
            kind = f"{suffix} file" if suffix else "file"
            raise LimitError(key, file, f"null, or a {kind} in a folder that exists")


def one_line(error: BaseException) -> str:
    """What Hydra or OmegaConf say over several lines, and of its cause, in one; clearer where a name is mistyped."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"{group} is {name}; {_any_of(name, error.options)}"
    for one in (error, error.__cause__):
        if isinstance(one, ConfigAttributeError | ConfigKeyError) and isinstance(one.parent_node, DictConfig):
            group, _, key = str(one.full_key).rpartition(".")
            if (known := _keys_of(group, one.parent_node)) and key not in known:
                kind = f"{group}={one.parent_node['name']}" if group in _CHOSEN else group
                return f"{one.full_key} is not a key{f' of {kind}' if kind else ''}; {_any_of(key, known)}"
    lines = [line.strip() for line in str(error).splitlines()]
    if error.__cause__ is not None:
        lines += [line.strip() for line in str(error.__cause__).splitlines()]
    if isinstance(error, OverrideParseException):
        lines.append("quote a value that has special characters, as in 'data.path=\"~/towns.txt\"'")
    noise = ("full_key:", "object_type=", "reference_type=", "See https", "Set the environment")
    return "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith(noise)))


def _keys_of(group: str, node: DictConfig) -> list[str]:
    """What can be given of a group of keys, or of all, where it is ""."""
    keys = [str(key) for key in node if not (group in _CHOSEN and key == "name") and (group or key != "hydra")]
    return [*keys, "experiment"] if not group and "space" in keys else keys  # a group that is null leaves no key


def _any_of(given: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, names, n=1)
    listed = ", ".join(names[:-1]) + " or " * (len(names) > 1) + names[-1]
    return (f"did you mean {near[0]}? " if near else "") + f"it must be {listed}"


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """The one in C: OmegaConf's own takes milliseconds of each trial."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Quoted where OmegaConf would read a number, though YAML would not, as in 1e5."""
        try:
            float(text)
        except ValueError:
            return self.represent_str(text)  # type: ignore[no-any-return]
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'")  # type: ignore[no-any-return]


_Dumper.add_representer(str, _Dumper.represent_text)


def write_yaml(path: Path, tree: Any) -> None:
    """A tree of plain values, as a file that OmegaConf reads."""
    path.write_text(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True), encoding="utf-8")


def conf_dir() -> Path:
    """The config tree: beside the packages in a checkout, inside this one in a wheel."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
