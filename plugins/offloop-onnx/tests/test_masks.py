"""Masks of the shipped model against a person whose opacity is known."""

from __future__ import annotations

import numpy as np
import pytest
from bench_quality import around_edge, intersection_over_union, run, to_bytes
from msgspec.structs import replace
from portraits import Portrait, backdrop, compose, place, portrait

from offloop_onnx import RemoveBackground
from offloop_onnx.shipped_models import PEOPLE


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


@pytest.mark.parametrize("height", [1 / 3, 1 / 5])
@pytest.mark.parametrize(("left", "above", "mirrored"), [(0.1, 1.0, False), (0.5, 0.5, False), (0.85, 1.0, True)])
@pytest.mark.parametrize("name", ["wall", "gradient"])
def test_a_small_person_is_found_before_a_plain_background(
    person: Portrait, name: str, left: float, above: float, mirrored: bool, height: float
) -> None:
    colours, alpha = place(person, height, left, mirrored, above)
    picture = to_bytes(compose(colours, alpha, backdrop(name, *alpha.shape)))
    found: list[float] = []
    for model in (replace(PEOPLE, second_pass=False), PEOPLE):
        mask, info = run(picture, RemoveBackground(model=model, mask_only=True))
        found.append(intersection_over_union(mask[..., 0], alpha))
    assert info["passes"] == 2
    assert found[1] > max(0.94, found[0])
