"""Levels of supervision: every backbone has one, and it follows from what its publisher trained it on."""

from __future__ import annotations

import pytest

from extract import backbones
from extract.weights.supervision import supervision_of
from features.featureset import Weights

EXPECTED = {
    "tiny_cnn": 0,
    "resnet50": 1,
    "convnext_base": 1,
    "slowfast_r50": 2,
    "swin3d_b": 2,
    "timesformer_base_ssv2": 2,
    "videomae_base_k400": 2,
    "videomae_base_k400_ssl": 3,
    "vjepa2_vitl_256": 3,
    "dinov2_base": 5,
    "dinov3_large": 5,
    "siglip2_base": 5,
    "egovlp": 4,
    "lavila_tsfb_epic": 5,
    "egohod_vitb": 5,
    "vjepa21_base_384": 5,
    "internvideo2_small": 5,
    "egovideo_1b": 5,
    "omnivore_swinb_epic": 2,
    "slowfast_r50_epic": 2,
    "tsn_r50_epic": 1,
    "tsm_r50_epic": 2,
    "videomae_large_epic": 5,
}


def _weights(revision: str) -> Weights:
    return Weights("somewhere", revision, "0" * 64)


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_has_a_level(name):
    assert supervision_of(backbones.get(name), _weights("published")) in range(6)


@pytest.mark.parametrize("name", backbones.names())
def test_video_data_count_as_more_than_images(name):
    entry = backbones.get(name)
    is_video = any(text in entry.pretraining for text in ("Kinetics", "Something", "VideoMix"))
    assert not is_video or supervision_of(entry, _weights("published")) >= 2


@pytest.mark.parametrize("name", EXPECTED)
def test_a_level_is_that_of_the_challenges_table(name):
    assert supervision_of(backbones.get(name), _weights("published")) == EXPECTED[name]


def test_random_weights_have_learned_nothing():
    assert supervision_of(backbones.get("dinov2_base"), _weights("random")) == 0


def test_a_file_that_fits_counts_as_the_published_weights():
    assert supervision_of(backbones.get("resnet50"), _weights("local file")) == 1
