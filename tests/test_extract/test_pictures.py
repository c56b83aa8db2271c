"""Gathered pictures are those of their numbers, in their order, as one would pick them one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretended_device import PretendedDevice

from extract.pictures import Blocks, BlockStore, gathered


def _store(lengths: list[int], first: int) -> tuple[Blocks, int]:
    """Return blocks of small pictures that each show their own number, counted on from `first`, and the next number."""
    store, number = BlockStore(), first
    for length in lengths:
        block = torch.arange(number, number + length, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 2, 2)
        store.add(block, last_use=0)
        number += length
    return store.kept(), number


@given(st.data())
def test_gathered_pictures_are_those_of_the_numbers_in_their_order(data):
    runs, expected, first = [], [], 0
    for lengths in data.draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=4)):
        blocks, next_first = _store(lengths, first)
        num = next_first - first
        numbers = data.draw(st.lists(st.integers(0, num - 1), min_size=2, max_size=12))
        runs.append((blocks, np.array(numbers[: len(numbers) // 2 * 2]).reshape(-1, 2)))
        expected += [first + number for number in numbers[: len(numbers) // 2 * 2]]
        first = next_first
    pictures = gathered(runs)
    assert pictures.shape == (len(expected), 3, 2, 2)
    assert pictures[:, 0, 0, 0].tolist() == expected
    assert (pictures == pictures[:, :1, :1, :1]).all()


def test_blocks_are_kept_until_their_last_use():
    store = BlockStore()
    numbers = [store.add(torch.zeros(2, 3, 1, 1), last_use=last).tolist() for last in (0, 2, 1)]
    assert numbers == [[0, 1], [2, 3], [4, 5]]
    store.forget(1)
    assert store.kept().first.tolist() == [2, 4]
    store.forget(2)
    assert store.kept().first.tolist() == [2]
    store.forget(3)
    assert len(store) == 0


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_gathering_takes_an_operation_per_block_on_a_device(kind):
    store = BlockStore()
    with PretendedDevice(kind) as device:
        for _ in range(3):
            store.add(torch.zeros(8, 3, 2, 2, dtype=torch.uint8).to(kind), last_use=0)
        before, waits_before = device.costs.kernels, len(device.costs.waits)
        pictures = gathered([(store.kept(), np.arange(24)[::-1].reshape(-1, 2))])
        assert device.holds(pictures)
        assert device.costs.kernels - before == 3 + 1  # and one puts them in order
        assert kind == "mps" or len(device.costs.waits) == waits_before
