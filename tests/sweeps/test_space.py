import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.config import conf_dir
from sweeps.errors import RequestError
from sweeps.space import corner_overrides, format_override, grid_of, read_space, read_warm_start

CATEGORIES = CategoricalDistribution


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
    space, fixed = read_space({}, [f"key={words}"])
    assert space == {"key": expected}
    assert fixed == []


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 9), st.sampled_from([1, 10, 100]))
def test_a_range_never_yields_its_end_and_yields_all_before_it(start: int, length: int, step: int, parts: int) -> None:
    """Also in tenths and hundredths, which binary fractions cannot hold."""
    numbers = [str(number / parts) if parts > 1 else str(number) for number in (start, start + length, step)]
    space, _ = read_space({}, [f"key=range({','.join(numbers)})"])
    values = [round(value * parts) for value in grid_of(space)["key"]]
    assert values == list(range(start, start + length, step))


@pytest.mark.parametrize("words", ["glob(*)", "range(3,3)", "range(1,5,0)", "tag(log,interval(0,1))", "interval(2,1)"])
def test_words_that_are_no_search_space_are_refused_by_name(words: str) -> None:
    with pytest.raises(RequestError, match="key="):
        read_space({}, [f"key={words}"])


def test_the_command_line_overrides_the_space_and_can_fix_a_key_of_it() -> None:
    params = {"a": "range(1,4)", "b": "choice(x,y)", "c": "interval(0,1)", "d": "7"}
    space, fixed = read_space(params, ["a=1,2", "b=x", "e=5"])
    assert space == {"a": CATEGORIES([1, 2]), "c": FloatDistribution(0.0, 1.0)}
    assert fixed == ["b=x", "e=5", "d=7"]


def test_corners_take_every_parameter_to_its_ends_and_through_its_choices() -> None:
    space, _ = read_space({"a": "int(interval(2,9))", "b": "choice(x,y,z)"}, [])
    assert corner_overrides(space) == [["a=2", "b=x"], ["a=9", "b=y"], ["a=2", "b=z"]]


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
        grid_of(read_space({"a": "interval(0,1)"}, [])[0])


def test_settings_outside_a_narrowed_space_are_left_out_and_fixed_keys_too() -> None:
    space, _ = read_space({"a": "int(interval(1,9))", "b": "choice(x,y)"}, [])
    settings = [{"a": 3, "b": "x", "fixed": 7}, {"a": 10, "b": "x"}, {"a": 3, "b": "z"}, {"fixed": 7}]
    assert read_warm_start(settings, space) == [{"a": 3, "b": "x"}]


@pytest.mark.parametrize(("name", "count"), [("quick", 1), ("lecture", 1), ("mlp", 2), ("none", 0)])
def test_every_warm_start_of_the_shipped_spaces_is_in_its_space(name: str, count: int) -> None:
    node = OmegaConf.load(conf_dir() / "space" / f"{name}.yaml").space
    space, _ = read_space(dict(node.params), [])
    settings = read_warm_start(node.warm_start, space)
    assert len(settings) == len(node.warm_start) == count
    assert all(set(setting) == set(space) for setting in settings)
