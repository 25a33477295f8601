from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from sweeps.config.files import conf_dir
from sweeps.config.reading import read_node
from sweeps.errors import RequestError
from sweeps.search.distributions import has_value
from sweeps.search.grid import grid_of, points_of
from sweeps.search.space import Space, SpaceConfig, corners, read_space, read_warm_start
from sweeps.search.sweep_words import format_override, parse_overrides, to_distribution

CATEGORIES = CategoricalDistribution


def config(params: dict[str, Any], conditions: dict[str, Any] | None = None, **others: Any) -> SpaceConfig:
    return SpaceConfig(
        "test", params, conditions or {}, {"parameters": None}, others.get("warm_start", []), others.get("settings", [])
    )


def read(params: dict[str, Any], *arguments: str, conditions: dict[str, Any] | None = None, **defaults: Any) -> Space:
    return read_space(config(params, conditions), list(arguments), lambda fixed: defaults)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("1,2,3", CATEGORIES([1, 2, 3])),
        ("choice(step,cosine)", CATEGORIES(["step", "cosine"])),
        ("choice(true,false)", CATEGORIES([True, False])),
        ("choice(0.1,1,x)", CATEGORIES([0.1, 1, "x"])),
        ("shuffle(1,2,3)", CATEGORIES([1, 2, 3])),
        ("shuffle(range(1,4))", CATEGORIES([1, 2, 3])),
        ("range(1,4)", IntDistribution(1, 3)),
        ("range(4)", IntDistribution(0, 3)),
        ("range(1,10,2)", IntDistribution(1, 9, step=2)),
        ("range(1,10,4)", IntDistribution(1, 9, step=4)),
        ("range(10,1,-3)", IntDistribution(4, 10, step=3)),
        ("range(0.5,2.0,0.5)", FloatDistribution(0.5, 1.5, step=0.5)),
        ("float(range(1,4))", FloatDistribution(1.0, 3.0, step=1.0)),
        ("interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("interval(1e-3,0.1)", FloatDistribution(1e-3, 0.1)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("tag(log,interval(1e-4,1))", FloatDistribution(1e-4, 1.0, log=True)),
        ("tag(log,int(interval(4,32)))", IntDistribution(4, 32, log=True)),
        ("int(tag(log,interval(4,32)))", IntDistribution(4, 32, log=True)),
    ],
)
def test_sweep_words_become_the_distributions_of_hydras_optuna_sweeper(words: str, expected: BaseDistribution) -> None:
    space = read({}, f"key={words}")
    assert space.distributions == {"key": expected}
    assert space.fixed == []


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 9), st.sampled_from([1, 10, 100]))
def test_a_range_never_yields_its_end_and_yields_all_before_it(start: int, length: int, step: int, parts: int) -> None:
    """Also in tenths and hundredths, which binary fractions cannot hold."""
    numbers = [str(number / parts) if parts > 1 else str(number) for number in (start, start + length, step)]
    [override] = parse_overrides([f"key=range({','.join(numbers)})"])
    space = Space({"key": to_distribution(override)}, [], {}, None, [])
    values = [round(value * parts) for value in grid_of(space)["key"]]
    assert values == list(range(start, start + length, step))


def test_seeds_are_named_and_never_searched() -> None:
    space = read({"seed": "range(0,3)", "a": "1,2"})
    assert (space.seeds, list(space.distributions), space.fixed) == ([0, 1, 2], ["a"], ["seed=0"])
    assert read({"seed": "0,1"}, "seed=5,5,7", "a=1,2").seeds == [5, 7]
    fixed = read({"seed": "0,1"}, "seed=5", "a=1,2")
    assert (fixed.seeds, fixed.fixed) == ([], ["seed=5"])


@pytest.mark.parametrize("words", ["seed=interval(0,3)", "seed=a,b", "seed=0.5,1", "seed=-1,1", "seed=true,1"])
def test_what_is_no_list_of_seeds_is_refused(words: str) -> None:
    with pytest.raises(RequestError, match="are no seeds; they must be whole numbers >= 0"):
        read({}, words)


@pytest.mark.parametrize("words", ["glob(*)", "range(3,3)", "range(1,5,0)", "tag(log,interval(0,1))", "interval(2,1)"])
def test_words_that_are_no_search_space_are_refused_by_name(words: str) -> None:
    with pytest.raises(RequestError, match="key="):
        read({}, f"key={words}")


@pytest.mark.parametrize(
    "distribution",
    [
        CATEGORIES([1, "x", None, True]),
        IntDistribution(2, 8, step=3),
        IntDistribution(1, 64, log=True),
        FloatDistribution(0.1, 0.7, step=0.2),
        FloatDistribution(1e-3, 1.0, log=True),
    ],
)
def test_a_distribution_has_the_values_that_optuna_takes_for_it(distribution: BaseDistribution) -> None:
    for value in (1, 2, 5, 6, 8, 3.5, 0.1, 0.5, 0.1 + 2 * 0.2, 0.6, 0.7, 1.0, 65, -1, "x", "1", None):
        try:
            create_trial(value=0.0, params={"key": value}, distributions={"key": distribution})
            takes = True
        except ValueError:
            takes = False
        assert has_value(distribution, value) == takes, value


def test_the_command_line_overrides_the_space_and_can_fix_a_key_of_it() -> None:
    params = {"a": "range(1,4)", "b": "choice(x,y)", "c": "interval(0,1)", "d": "7"}
    space = read(params, "a=1,2", "b=x", "e=5")
    assert space.distributions == {"a": CATEGORIES([1, 2]), "c": FloatDistribution(0.0, 1.0)}
    assert space.fixed == ["b=x", "e=5", "d=7"]


def test_corners_take_every_parameter_to_its_ends_and_through_its_choices() -> None:
    space = read({"a": "int(interval(2,9))", "b": "choice(x,y,z)"})
    assert corners(space) == [{"a": 2, "b": "x"}, {"a": 9, "b": "y"}, {"a": 2, "b": "z"}]


def test_a_conditional_parameter_stands_behind_what_it_depends_on_and_only_there() -> None:
    params = {"decay_at": "interval(0.3,0.9)", "schedule": "choice(cosine,step)"}
    space = read(params, conditions={"decay_at": {"schedule": "step"}})
    assert list(space.distributions) == ["schedule", "decay_at"]
    assert space.is_active("decay_at", {"schedule": "step"})
    assert not space.is_active("decay_at", {"schedule": "cosine"})
    ends = corners(space)
    assert all(("decay_at" in corner) == (corner["schedule"] == "step") for corner in ends)
    assert {corner.get("decay_at") for corner in ends} == {None, 0.3, 0.9}


def test_a_condition_on_a_step_of_a_range_holds_at_its_multiple() -> None:
    space = read({"a": "range(0.1,0.5,0.1)", "b": "1,2"}, conditions={"b": {"a": 0.3}})
    assert space.is_active("b", {"a": 0.1 + 2 * 0.1})  # 0.30000000000000004
    assert not space.is_active("b", {"a": 0.1})


def test_a_condition_on_a_fixed_key_is_decided_before_the_search() -> None:
    params, conditions = {"a": "1,2", "b": "3,4"}, {"b": {"schedule": ["step", "cosine"]}}
    assert list(read(params, conditions=conditions, schedule="step").distributions) == ["a", "b"]
    assert read(params, conditions=conditions, schedule="step").conditions == {}
    assert list(read(params, conditions=conditions, schedule="constant").distributions) == ["a"]


def test_a_condition_that_the_narrowed_space_cannot_meet_takes_its_key_with_it() -> None:
    params = {"a": "choice(x,y)", "b": "1,2", "c": "3,4"}
    space = read(params, "a=choice(y,z)", conditions={"b": {"a": "x"}, "c": {"b": 1}})
    assert list(space.distributions) == ["a"]


def test_conditions_in_a_circle_or_on_nothing_are_refused() -> None:
    with pytest.raises(RequestError, match=r"space\.conditions of a and b depend on each other"):
        read({"a": "1,2", "b": "1,2"}, conditions={"a": {"b": 1}, "b": {"a": 1}})
    with pytest.raises(RequestError, match=r"space\.conditions\.a depends on nothing\.here, which is not a key"):
        read({"a": "1,2"}, conditions={"a": {"nothing.here": 1}})


def test_a_grid_with_conditions_has_each_setting_once() -> None:
    points = points_of(read({"a": "1,2", "b": "1,2"}, conditions={"b": {"a": 1}}), 0)
    assert sorted(points, key=str) == [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2}]


@pytest.mark.parametrize(
    "value",
    [True, None, 3, 0.1, 1e-05, "cosine", "a b", "it's", "x,y", "a=b", "c:\\d", "[1]", "10", "null", "true", "é.txt"],
)
def test_a_choice_survives_the_way_through_an_override(value: object) -> None:
    [override] = OverridesParser.create().parse_overrides([format_override("key", value)])
    parsed = override.value()
    parsed = parsed.text if isinstance(parsed, QuotedString) else parsed
    assert parsed == value
    assert type(parsed) is type(value)


def test_a_grid_of_an_interval_is_refused() -> None:
    with pytest.raises(RequestError, match=r"a is searched over an interval; sampler=grid needs choice"):
        points_of(read({"a": "interval(0.0,1.0)"}), 0)


def test_settings_outside_a_narrowed_space_are_left_out_and_fixed_keys_too() -> None:
    settings = [{"name": "good", "a": 3, "b": "x", "fixed": 7}, {"a": 10, "b": "x"}, {"a": 3, "b": "z"}, {"a": 4}]
    space = config({"a": "int(interval(1,9))", "b": "choice(x,y)"}, warm_start=settings)
    expected = [("good", {"a": 3, "b": "x"}), ("setting 4 of space.warm_start", {"a": 4})]
    assert read_warm_start(space, read(space.params)) == expected


@pytest.mark.parametrize(("name", "count"), [("quick", 1), ("lecture", 1), ("mlp", 2), ("none", 0), ("ngram", 0)])
def test_every_warm_start_of_the_shipped_spaces_is_in_its_space(name: str, count: int) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node: SpaceConfig = read_node(SpaceConfig, compose("config", overrides=[f"space={name}"]), "space")
    space = read_space(node, [], lambda fixed: {})
    settings = read_warm_start(node, space)
    assert len(settings) == len(node.warm_start) == count
    assert all(set(setting) == set(space.distributions) - set(space.conditions) for _, setting in settings)
