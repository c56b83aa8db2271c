"""A member of a registry as text: name[:key=value]..."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from feature_files import finished, python
from hypothesis import given
from hypothesis import strategies as st

from features.errors import OptionError
from heads.losses.catalogue import describe_losses
from heads.models.catalogue import describe_heads
from heads.registry import Registry, Spec, need_between, need_positive

REGISTRY = Registry("shape", option="--shape", set_option="--set")


@dataclass(frozen=True)
class BoxConfig:
    """Two options of two types."""

    sides: int = 4
    height: float = 2.0

    def __post_init__(self) -> None:
        need_positive(self, "sides")
        need_between(self, 0, 1e300, "height")


@dataclass(frozen=True)
class DotConfig:
    """No options."""


REGISTRY.register("box", BoxConfig)(object)
REGISTRY.register("dot", DotConfig)(object)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dot", Spec("dot", {})),
        ("box", Spec("box", {"sides": 4, "height": 2.0})),
        ("box:height=0.25", Spec("box", {"sides": 4, "height": 0.25})),
        ("box:height=1e-3:sides=6", Spec("box", {"sides": 6, "height": 0.001})),
    ],
)
def test_options_that_are_not_given_are_the_defaults(text, expected):
    assert REGISTRY.parse_spec(text) == expected


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("box:sides=4:height=2", "box"),
        ("box:height=3.0:sides=04", "box:height=3"),
        ("box:height=0.1:sides=100000000", "box:sides=100000000:height=0.1"),
        ("dot", "dot"),
    ],
)
def test_text_is_the_shortest_that_says_the_same(text, shortest):
    assert REGISTRY.text(REGISTRY.parse_spec(text)) == shortest


@given(sides=st.integers(1), height=st.floats(0, 1e300))
def test_every_value_comes_back_from_text_exactly(sides, height):
    spec = Spec("box", {"sides": sides, "height": height})
    assert REGISTRY.parse_spec(REGISTRY.text(spec)) == spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"no shape ''\. Known: box, dot\."),
        ("bx", r"no shape 'bx'; did you mean 'box'\? Known: box, dot\."),
        (":sides=4", r"no shape ''\. Known: box, dot\."),
        ("box:hight=1", r"no option of box 'hight'; did you mean 'height'\? Known: height, sides\."),
        ("dot:size=1", "dot has no options, so none 'size'"),
        ("box:sides", "'sides' in 'box:sides' is not key=value"),
        ("box:", "'' in 'box:' is not key=value"),
        ("box::sides=4", "'' in 'box::sides=4' is not key=value"),
        ("box:=4", "'=4' in 'box:=4' is not key=value"),
        ("box:sides=4:sides=5", "sides is given twice in 'box:sides=4:sides=5'"),
        ("box:sides=", "sides is '', not a whole number"),
        ("box:sides=1=2", "sides is '1=2', not a whole number"),
        ("box:sides=0", "sides is 0, not 1 or more"),
        ("box:height=nan", r"height is nan, not from 0 to 1e\+300"),
    ],
)
def test_what_cannot_be_meant_is_refused_under_the_option_it_was_given_by(text, expected):
    for option, option_name in ((None, "--shape"), ("--grid", "--grid")):
        with pytest.raises(OptionError, match=f"^{option_name}: {expected}"):
            REGISTRY.parse_spec(text, option)


# ---- the registries of heads and losses

LIST = """
import sys
import heads.config, heads.sweep.grid
from heads.losses.catalogue import describe_losses, parse_loss
from heads.models.catalogue import describe_heads, parse_head
members = [*describe_heads(), *describe_losses(), parse_loss("focal:gamma=2"), parse_head("bilstm:hidden=8")]
print(len(members) > 2, *[name for name in ("torch", "pandas", "h5py") if name in sys.modules])
"""


def test_lists_and_options_of_members_load_no_torch():
    assert finished(python(LIST)) == (0, "True\n", "")


@pytest.mark.parametrize("members", [describe_heads(), describe_losses()], ids=["heads", "losses"])
def test_every_member_is_described_by_a_sentence(members):
    assert all(member.what.endswith(".") for member in members)
