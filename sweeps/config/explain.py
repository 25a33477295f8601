"""The help of a command: its keys with their defaults, in the words of the comments in conf/."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweeps.config.messages import NAMED_GROUPS
from sweeps.config.terminal import wrap

_WORDS_AT = 34  # the column at which the words of a key begin
_OF_STUDIES = ("study", "sampler", "pruner", "hooks")  # keys that have an effect on studies only
_STUDIES = ("sweep", "ladder")  # the commands that start a study, among those that train


@dataclass(frozen=True)
class ConfigFile:
    """The comments of a file in conf/."""

    head: str = ""  # the first paragraph of the comment at its top
    keys: Mapping[str, str] = field(default_factory=dict)  # dotted key -> the comment above and behind it
    groups: Mapping[str, str] = field(default_factory=dict)  # config group in its defaults -> the comment behind it
    parents: Sequence[str] = ()  # the files that its defaults name


@dataclass(frozen=True)
class Entry:
    """A key of a command, or the choice of a file for a group of keys."""

    key: str
    value: str
    words: str

    def as_text(self, indent: str = "  ") -> str:
        """The entry in lines that fit the terminal."""
        left = f"{indent}{self.key}={self.value}"
        margin = " " * _WORDS_AT
        if self.words and len(left) < _WORDS_AT - 1:
            return wrap(self.words, margin, left.ljust(_WORDS_AT))
        return "\n".join(
            [wrap(left.strip(), f"{indent}    ", indent), *([wrap(self.words, margin)] if self.words else [])]
        )


def explain(command: str, config_name: str, cfg: DictConfig, choices: Mapping[str, Any], loader: ConfigLoader) -> str:
    """The text that `makemore COMMAND --help` prints.

    Args:
        cfg: the composed config, whose values are shown.
        choices: the file that was chosen for each group, as Hydra records it.
    """
    sources = [Path(source.path) for source in loader.get_sources() if source.scheme() == "file"]
    files = list(_with_parents(sources, config_name))
    groups = {group: words for file in reversed(files) for group, words in file.groups.items()}
    texts = [wrap(files[0].head), f"\n  makemore {command} [KEY=VALUE ...]\n", "Keys, with their defaults:"]
    hidden = _OF_STUDIES if "sampler" in groups and command not in _STUDIES else ()
    for group, entries in _sections(sources, files, groups, cfg, choices):
        if group not in hidden:
            shown = entries[:1] if hidden and group == "space" else entries  # what it searches is a study's matter
            texts += ["", *(entry.as_text() for entry in shown)]
    if hidden:
        of_studies = ", ".join(f"{key}.*" for key in (*hidden, "space"))
        texts += ["", wrap(f"{of_studies}: they have an effect on studies only, see makemore sweep --help")]
    if groups:
        texts += ["", wrap("Groups: GROUP=NAME chooses a file of conf/GROUP, or of your own folder with --config-dir:")]
    for group in groups:
        if group not in hidden:
            options = loader.get_group_options(group)
            entries = [Entry(group, name, _words_of(_find(sources, f"{group}/{name}"))) for name in options]
            texts += ["", *(entry.as_text() for entry in entries)]
    texts += ["", wrap(f"--cfg job prints all values as YAML; makemore {command} --hydra-help lists Hydra's options.")]
    return "\n".join(texts)


def _sections(
    sources: Sequence[Path],
    files: Sequence[ConfigFile],
    groups: Mapping[str, str],
    cfg: DictConfig,
    choices: Mapping[str, Any],
) -> Iterator[tuple[str, list[Entry]]]:
    """The entries of each key at the root of a config, those that are no group of keys first."""
    words = {key: text for file in reversed(files) for key, text in file.keys.items()}
    plain = [key for key in map(str, cfg) if not OmegaConf.is_dict(OmegaConf.select(cfg, key))]
    yield "", [Entry(key, _shown(cfg, key), words.get(key, "")) for key in plain]
    own, *more = ([key.partition(".")[0] for key in file.keys] for file in files)
    first = [] if files[0].groups else own  # what a command has for itself
    for group in dict.fromkeys([*first, *groups, *own, *itertools.chain(*more), *map(str, cfg)]):
        if group in plain or group == "hydra" or not (group in cfg or group in groups):
            continue
        entries = []
        known = words
        if group in groups:
            entries.append(Entry(group, str(choices.get(group) or "null"), groups[group]))
            chosen = reversed(list(_with_parents(sources, f"{group}/{choices.get(group)}")))
            known = words | {f"{group}.{key}": text for file in chosen for key, text in file.keys.items()}
        if group in cfg:
            entries += [Entry(key, _shown(cfg, key), known.get(key, "")) for key in _leaves(cfg, group, known)]
        yield group, entries


def _leaves(cfg: DictConfig, prefix: str, words: Mapping[str, str]) -> Iterator[str]:
    """The dotted keys under a key; a group of keys without words for any of them is one key."""
    for key in map(str, OmegaConf.select(cfg, prefix)):
        dotted = f"{prefix}.{key}"
        if key.startswith("_") or (key == "name" and prefix in NAMED_GROUPS):
            continue
        has_parts = any(known.startswith(f"{dotted}.") for known in words)
        yield from (list(_leaves(cfg, dotted, words)) if has_parts else []) or [dotted]


def _shown(cfg: DictConfig, key: str) -> str:
    """A value as it is given on the command line; ??? where one must be given."""
    try:
        value = OmegaConf.select(cfg, key, throw_on_missing=True)
    except OmegaConfBaseException:
        return "???"
    if OmegaConf.is_config(value):
        plain = OmegaConf.to_container(value)
        return str(yaml.safe_dump(plain, default_flow_style=True, width=10**6, sort_keys=False)).strip()
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value) if value != "" else '""'


def _with_parents(sources: Sequence[Path], name: str) -> Iterator[ConfigFile]:
    file, folder = _find(sources, name), name.rpartition("/")[0]
    yield file
    for parent in file.parents:
        yield from _with_parents(sources, f"{folder}/{parent}" if folder else parent)


def _find(sources: Sequence[Path], name: str) -> ConfigFile:
    """The comments of the first file of a name; of no file, none."""
    paths = [source / f"{name}.yaml" for source in sources]
    path = next((path for path in paths if path.is_file()), None)
    return read_comments(path.read_text(encoding="utf-8")) if path else ConfigFile()


def _words_of(file: ConfigFile) -> str:
    """What a file of a group is, in words."""
    return file.head or file.keys.get("name", "")


def read_comments(text: str) -> ConfigFile:
    """The comments of a YAML text."""
    lines = text.splitlines()
    root = yaml.compose(text)
    keys: dict[str, str] = {}
    groups: dict[str, str] = {}
    parents: list[str] = []

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key, value in node.value:
            is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            words = [_above(lines, key.start_mark.line), _behind(lines, key.end_mark if is_block else value.end_mark)]
            keys[f"{prefix}{key.value}"] = " ".join(filter(None, words))
            if is_block and isinstance(value, yaml.MappingNode):
                walk(value, f"{prefix}{key.value}.")

    if isinstance(root, yaml.MappingNode):
        walk(root, "")
        for entry in next((value.value for key, value in root.value if key.value == "defaults"), []):
            if isinstance(entry, yaml.ScalarNode):
                parents += [entry.value] if entry.value != "_self_" else []
            elif not (group := entry.value[0][0].value).startswith("override "):
                groups[group] = _behind(lines, entry.value[0][1].end_mark)
    top = [line for line in lines if not line.startswith("# @package")]
    head = _above(top, next((number for number, line in enumerate(top) if line == "#" or line[:1] != "#"), 0))
    return ConfigFile(head, keys, groups, parents)


def _above(lines: Sequence[str], number: int) -> str:
    """The comment in the lines that stand directly above a line."""
    comment: list[str] = []
    while number > 0 and (found := re.match(r"\s*# ?(.*)", lines[number - 1])):
        number -= 1
        comment.insert(0, found[1])
    return " ".join(line.strip() for line in comment)


def _behind(lines: Sequence[str], mark: yaml.Mark) -> str:
    """The comment behind a place in a line."""
    found = re.match(r"[^#]*# ?(.*)", lines[mark.line][mark.column :]) if mark.line < len(lines) else None
    return found[1].strip() if found else ""
