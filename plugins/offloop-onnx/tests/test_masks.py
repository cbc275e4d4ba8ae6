"""Masks of the shipped model against a person whose opacity is known."""

from __future__ import annotations

import numpy as np
import pytest
from bench_quality import around_edge, intersection_over_union, run, to_bytes
from portraits import Portrait, backdrop, compose, portrait

from offloop_onnx import RemoveBackground


@pytest.fixture(scope="module")
def person() -> Portrait:
    return portrait()


@pytest.mark.parametrize("name", ["wall", "gradient", "rocket.jpg", "coffee.webp", "hubble-deep-field.jpg"])
def test_the_mask_of_a_person_has_nine_tenths_in_common_with_the_true_one(person: Portrait, name: str) -> None:
    picture = to_bytes(compose(person.colours, person.alpha, backdrop(name, *person.alpha.shape)))
    mask, info = run(picture, RemoveBackground(mask_only=True))
    assert intersection_over_union(mask[..., 0], person.alpha) > 0.96
    assert np.abs(mask[..., 0] - person.alpha).mean() < 0.05
    assert info["coverage"] == pytest.approx(float(person.alpha.mean()), abs=0.04)


def test_edges_are_closer_to_the_truth_than_those_of_the_plain_mask(person: Portrait) -> None:
    behind = backdrop("hubble-deep-field.jpg", *person.alpha.shape)
    picture = to_bytes(compose(person.colours, person.alpha, behind))
    ideal = compose(person.colours, person.alpha, np.array([0.1, 0.5, 0.2]))
    refined, _ = run(picture, RemoveBackground(background=(25.5, 127.5, 51)))
    plain, _ = run(picture, RemoveBackground(mask_only=True, refine="none"))
    pasted = compose(picture / 255, plain[..., 0], np.array([0.1, 0.5, 0.2]))
    edge = around_edge(person.alpha)
    assert np.abs(refined - ideal)[edge].mean() < 0.75 * np.abs(pasted - ideal)[edge].mean()
