"""Mixing and noise: what the formulas give by hand, and labels in the same shares as features."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heads.config import Augmentation
from heads.data.augment import Mixture, augmented
from heads.data.steps import Batch, Steps
from heads.models.pooling import masked_mean

MIXUP, CUTMIX = Augmentation(mixup=0.4), Augmentation(cutmix=1.0)
every_mix = pytest.mark.parametrize("augmentation", [MIXUP, CUTMIX, Augmentation(mixup=0.4, cutmix=1.0)])


def make_batch(*segments: tuple[int, int, int], dim: int = 3, streams: int = 1, seed: int = 0) -> Batch:
    """A batch of segments, each of some steps of context, of its own, and of context again; padding is NaN."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(map(sum, segments))
    step = torch.arange(longest)
    num_before, num_own, num_after = torch.tensor(segments).T[..., None]
    mask = step < num_before + num_own + num_after
    within = (num_before <= step) & (step < num_before + num_own)
    stream_steps = []
    for _ in range(streams):
        features = torch.randn(len(segments), longest, dim, generator=generator).half()
        features = features.masked_fill(~mask[..., None], torch.nan)
        stream_steps.append(Steps(features, mask, torch.randn(mask.shape, generator=generator) * mask, within))
    return Batch(tuple(stream_steps), torch.arange(len(segments)))


def mix(batch: Batch, augmentation: Augmentation, *, seed: int = 0) -> tuple[Batch, Mixture | None]:
    torch.manual_seed(seed)
    dims = [steps.features.shape[2] for steps in batch.streams]
    return augmented(batch, augmentation, [torch.ones(dim) for dim in dims])


batches = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=9)
seeds = st.integers(0, 999)


def test_a_batch_with_nothing_asked_for_comes_back_as_it_is():
    batch = make_batch((0, 3, 0), (1, 2, 3))
    mixed_batch, mixture = mix(batch, Augmentation(step_dropout=0.5, jitter=0.5, speed=0.5))
    assert mixed_batch is batch
    assert mixture is None


@every_mix
@given(segments=batches, seed=seeds)
@settings(deadline=None, max_examples=40)
def test_every_segment_is_the_partner_of_one(augmentation, segments, seed):
    _, mixture = mix(make_batch(*segments), augmentation, seed=seed)
    assert sorted(mixture.partner.tolist()) == list(range(len(segments)))


@every_mix
@given(segments=batches, seed=seeds)
@settings(deadline=None, max_examples=40)
def test_mask_times_and_index_stay(augmentation, segments, seed):
    batch = make_batch(*segments, streams=2)
    mixed_batch, _ = mix(batch, augmentation, seed=seed)
    assert torch.equal(mixed_batch.index, batch.index)
    for steps, original in zip(mixed_batch.streams, batch.streams, strict=True):
        assert all(torch.equal(*pair) for pair in zip(steps[1:4], original[1:4], strict=True))


@every_mix
@given(segments=batches, seed=seeds)
@settings(deadline=None, max_examples=40)
def test_what_lies_in_the_padding_stays_there(augmentation, segments, seed):
    (steps,) = mix(make_batch(*segments), augmentation, seed=seed)[0].streams
    assert steps.features[steps.mask].isfinite().all()


@every_mix
def test_a_seed_gives_the_same_mixture_and_another_gives_another(augmentation):
    batch = make_batch(*[(0, 8, 0)] * 8)
    (first, mixture), (repeat, _), (other, _) = (mix(batch, augmentation, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.streams[0].features, repeat.streams[0].features)
    assert not torch.equal(first.streams[0].features, other.streams[0].features)
    assert (mixture.partner.dtype, mixture.own.dtype) == (torch.int64, torch.float32)


def test_a_batch_is_not_changed_where_it_lies():
    """It may be a view of the features that are kept."""
    for augmentation in (MIXUP, CUTMIX, Augmentation(noise=1.0)):
        batch, copy = make_batch(*[(1, 8, 1)] * 8), make_batch(*[(1, 8, 1)] * 8)
        mix(batch, augmentation)
        assert torch.equal(batch.streams[0].features, copy.streams[0].features)


def test_of_two_ways_to_mix_both_are_drawn():
    batch = make_batch(*[(2, 6, 2)] * 8)
    context_stays = {
        bool(torch.equal(steps.features[:, :2].half(), batch.streams[0].features[:, :2]))
        for seed in range(20)
        for steps in mix(batch, Augmentation(mixup=1.0, cutmix=1.0), seed=seed)[0].streams
    }
    assert context_stays == {True, False}  # CutMix leaves the context, mixup does not


# ---- mixup


def place_of(segment: tuple[int, int, int], step: int) -> tuple[str, int]:
    """The part of a window that a step lies in, and its number there, counted from the segment."""
    before, own, _ = segment
    if step < before:
        return "before", before - step
    return ("own", step - before) if step < before + own else ("after", step - before - own)


@given(segments=batches, seed=seeds)
@settings(deadline=None)
def test_mixup_averages_each_step_with_the_partners_of_the_same_place(segments, seed):
    """Steps of a segment with steps of a segment, and context with context; labels in the shares of the former."""
    batch = make_batch(*segments, streams=2)
    mixed_batch, mixture = mix(batch, MIXUP, seed=seed)
    drawn = mix(make_batch(*[(0, 1, 0)] * len(segments)), MIXUP, seed=seed)[1].own.tolist()  # all have a partner
    for row, (partner, own) in enumerate(zip(mixture.partner.tolist(), drawn, strict=True)):
        steps_of_partner = {place_of(segments[partner], step): step for step in range(sum(segments[partner]))}
        own_shares = []
        for step in range(sum(segments[row])):
            place = place_of(segments[row], step)
            share = own if place in steps_of_partner else 1.0
            if place[0] == "own":
                own_shares.append(share)
            for steps, original in zip(mixed_batch.streams, batch.streams, strict=True):
                expected = share * original.features[row, step].float()
                if place in steps_of_partner:
                    expected += (1 - share) * original.features[partner, steps_of_partner[place]].float()
                torch.testing.assert_close(steps.features[row, step], expected, rtol=1e-5, atol=1e-5)
        assert float(mixture.own[row]) == pytest.approx(sum(own_shares) / len(own_shares), abs=1e-6)


def test_segments_of_equal_length_keep_the_share_that_was_drawn_to_the_last_bit():
    torch.manual_seed(0)
    alpha = torch.full((64,), 0.4)
    drawn = torch.distributions.Beta(alpha, alpha).sample()
    for segment in ((0, 1, 0), (2, 5, 1)):
        assert torch.equal(mix(make_batch(*[segment] * 64), MIXUP)[1].own, torch.maximum(drawn, 1 - drawn))


@given(alpha=st.sampled_from([1e-30, 1e-3, 0.2, 1.0, 8.0, 1e30]), seed=seeds)
@settings(deadline=None)
def test_a_segment_stays_the_larger_part_in_mixup(alpha, seed):
    _, mixture = mix(make_batch(*[(0, 1, 0)] * 9), Augmentation(mixup=alpha), seed=seed)
    assert ((mixture.own >= 0.5 - 1e-5) & (mixture.own <= 1)).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_those_of_the_larger_part_of_a_beta_distribution(alpha):
    own = mix(make_batch(*[(0, 1, 0)] * 4000), Augmentation(mixup=alpha))[1].own
    samples = torch.distributions.Beta(alpha, alpha).sample((100_000,))
    expected = torch.maximum(samples, 1 - samples)
    assert float(own.mean()) == pytest.approx(float(expected.mean()), abs=0.01)
    assert float(own.std()) == pytest.approx(float(expected.std()), abs=0.01)


# ---- CutMix


@given(segments=batches, seed=seeds)
@settings(deadline=None)
def test_cutmix_takes_steps_of_the_same_part_of_the_partner(segments, seed):
    """And leaves all others as they are, the context as well."""
    batch = make_batch(*segments)
    (original,) = batch.streams
    mixed_batch, mixture = mix(batch, CUTMIX, seed=seed)
    (steps,) = mixed_batch.streams
    for row, partner in enumerate(mixture.partner.tolist()):
        first, count, _ = segments[row]
        first_of_partner, count_of_partner, _ = segments[partner]
        kept_steps = []
        for step in range(sum(segments[row])):
            if torch.equal(steps.features[row, step], original.features[row, step]):
                kept_steps.append(step)
                continue
            assert first <= step < first + count
            partner_step = int((step - first + 0.5) / count * count_of_partner + 1e-4)
            expected = original.features[partner, first_of_partner + partner_step]
            torch.testing.assert_close(steps.features[row, step], expected, rtol=0, atol=0)
        cut_steps = sorted(set(range(first, first + count)) - set(kept_steps))
        assert cut_steps == list(range(cut_steps[0], cut_steps[-1] + 1)) if cut_steps else True  # one run
        if partner != row:
            assert float(mixture.own[row]) == pytest.approx(1 - len(cut_steps) / count, abs=1e-6)


def test_cutmix_keeps_half_or_more_of_a_long_segment():
    own = mix(make_batch(*[(0, 100, 0)] * 500), CUTMIX)[1].own
    assert own.min() >= 0.495
    assert own.max() > 0.95


def test_cutmix_cuts_anywhere_in_a_segment():
    batch = make_batch(*[(0, 20, 0)] * 2000)
    mixed_batch, mixture = mix(batch, CUTMIX)
    is_cut = (mixed_batch.streams[0].features != batch.streams[0].features).any(dim=2)
    share = is_cut.float().mean(dim=0)
    assert share.min() > 0.02
    torch.testing.assert_close(share, share.flip(0), rtol=0, atol=0.05)  # as often early as late
    assert float(is_cut.float().mean()) == pytest.approx(float((1 - mixture.own).mean()), abs=0.01)


def test_cutmix_cuts_sets_with_equal_steps_alike():
    batch = make_batch(*[(1, 7, 2)] * 50, streams=2)
    mixed_batch, _ = mix(batch, CUTMIX)
    cuts = [
        (steps.features != original.features).any(dim=2)
        for steps, original in zip(mixed_batch.streams, batch.streams, strict=True)
    ]
    assert torch.equal(*cuts)


def test_the_share_of_a_segment_is_the_mean_over_sets_of_other_steps():
    first, second = make_batch(*[(0, 9, 0)] * 30), make_batch(*[(0, 4, 0)] * 30, seed=1)
    batch = Batch((first.streams[0], second.streams[0]), first.index)
    mixed_batch, mixture = mix(batch, CUTMIX)
    kept_shares = [
        (steps.features == original.features).all(dim=2).float().mean(dim=1)
        for steps, original in zip(mixed_batch.streams, batch.streams, strict=True)
    ]
    is_mixed = mixture.partner != torch.arange(30)
    torch.testing.assert_close(mixture.own[is_mixed], torch.stack(kept_shares).mean(dim=0)[is_mixed])


# ---- noise


def test_noise_has_the_deviation_asked_for_in_each_dimension():
    batch = make_batch(*[(0, 50, 0)] * 400)
    deviations = torch.tensor([0.5, 1.0, 20.0])
    torch.manual_seed(0)
    noisy_batch, mixture = augmented(batch, Augmentation(noise=0.1), [deviations])
    noise = noisy_batch.streams[0].features - batch.streams[0].features.float()
    assert mixture is None
    torch.testing.assert_close(noise.std(dim=(0, 1)), 0.1 * deviations, rtol=0.02, atol=0)
    torch.testing.assert_close(noise.mean(dim=(0, 1)) / deviations, torch.zeros(3), rtol=0, atol=0.005)


def test_each_set_has_noise_of_its_own():
    batch = make_batch((0, 5, 0), (1, 3, 1), streams=2)
    torch.manual_seed(0)
    noisy_batch, _ = augmented(batch, Augmentation(noise=1.0), [torch.zeros(3), torch.ones(3)])
    is_changed = [
        not torch.equal(steps.features[steps.mask], original.features[original.mask].float())
        for steps, original in zip(noisy_batch.streams, batch.streams, strict=True)
    ]
    assert is_changed == [False, True]


def test_noise_comes_after_mixing():
    """So that a mixture has as much of it as any segment."""
    batch = make_batch(*[(0, 30, 0)] * 200)
    mixed_batch, mixture = mix(batch, Augmentation(mixup=1.0, noise=0.1))
    features = batch.streams[0].features.float()
    own = mixture.own[:, None, None]
    noise = mixed_batch.streams[0].features - (own * features + (1 - own) * features[mixture.partner])
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)


# ---- labels


@every_mix
@given(segments=batches, seed=seeds)
@settings(deadline=None, max_examples=40)
def test_labels_have_the_share_that_features_have(augmentation, segments, seed):
    """Of steps that are all their own segment's class, the mean over a segment is the mixture of labels.

    The context is of no class. Sets may have steps of other lengths, and labels then have the mean of their shares.
    """
    num = len(segments)
    streams = []
    for lengths in (segments, [(before, 3 * own, after) for before, own, after in segments]):
        (steps,) = make_batch(*lengths).streams
        one_hot = torch.eye(num)[:, None].expand(num, steps.mask.shape[1], num)
        streams.append(steps._replace(features=one_hot * steps.within.unsqueeze(-1)))
    mixed_batch, mixture = mix(Batch(tuple(streams), torch.arange(num)), augmentation, seed=seed)
    by_stream = [masked_mean(steps.features, steps.within) for steps in mixed_batch.streams]
    own = mixture.own[:, None]
    expected = own * torch.eye(num) + (1 - own) * torch.eye(num)[mixture.partner]
    torch.testing.assert_close(torch.stack(by_stream).mean(dim=0), expected, rtol=1e-4, atol=1e-4)
