"""Things are dealt to groups once, evenly, and the same way on every call; a shard names a task that exists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.dealing import deal, parse_shard
from features.errors import OptionError

COSTS = st.lists(st.integers(0, 1000), max_size=60)


@given(COSTS, st.integers(1, 12))
def test_everything_is_dealt_once(costs, num_groups):
    groups = deal(costs, num_groups)
    assert len(groups) == num_groups
    assert sorted(index for group in groups for index in group.tolist()) == list(range(len(costs)))


@given(COSTS, st.integers(1, 12))
def test_no_group_has_more_than_a_fair_share_and_one_thing(costs, num_groups):
    heaviest = max(sum(costs[index] for index in group) for group in deal(costs, num_groups))
    assert heaviest <= sum(costs) / num_groups + max(costs, default=0)


@given(COSTS, st.integers(1, 12))
def test_every_group_in_turn_is_the_cheapest_when_it_gets_its_next_item(costs, num_groups):
    """A slow loop written plainly."""
    groups: list[list[int]] = [[] for _ in range(num_groups)]
    totals = [0] * num_groups
    for index in sorted(range(len(costs)), key=lambda index: costs[index], reverse=True):
        cheapest = totals.index(min(totals))
        groups[cheapest].append(index)
        totals[cheapest] += costs[index]
    assert [group.tolist() for group in deal(costs, num_groups)] == [sorted(group) for group in groups]


@pytest.mark.parametrize("text", ["", "3", "8/8", "-1/8", "0/0", "1/x", "1/8/2", " 1/8"])
def test_wrong_shard_is_a_wrong_option(text):
    with pytest.raises(OptionError, match="--shard"):
        parse_shard(text)


@pytest.mark.parametrize(("text", "task"), [("3/8", (3, 8)), ("0/1", (0, 1)), (None, (0, 1))])
def test_shard_is_task_and_number_of_tasks(text, task):
    assert parse_shard(text) == task
