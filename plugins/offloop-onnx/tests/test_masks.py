"""Masks of the shipped model against a person whose opacity is known."""

from __future__ import annotations

import numpy as np
import pytest
from bench_quality import around_edge, intersection_over_union, run, to_bytes
from msgspec.structs import replace
from portraits import Portrait, backdrop, compose, photograph, place, portrait

from offloop.processor import Raster, TaskCancelled
from offloop_onnx import RemoveBackground
from offloop_onnx.pictures.picture import Picture
from offloop_onnx.processor.background_removal import remove_background
from offloop_onnx.processor.sessions import Sessions
from offloop_onnx.settings import OnnxSettings
from offloop_onnx.shipped_models import PEOPLE

from .conftest import Array, CountingTask

ONE_PASS = replace(PEOPLE, second_pass=False)


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
    for model in (ONE_PASS, PEOPLE):
        mask, info = run(picture, RemoveBackground(model=model, mask_only=True))
        found.append(intersection_over_union(mask[..., 0], alpha))
    assert info["passes"] == 2
    assert found[1] > max(0.94, found[0])


def before_a_cup(person: Portrait, height: float, left: float) -> tuple[Array, Array]:
    """Returns a picture in which a cup is taken for a person, and the opacity of the person in front of it."""
    colours, alpha = place(person, height, left, False, 1.0)
    return to_bytes(compose(colours, alpha, backdrop("coffee.webp", *alpha.shape))), alpha


@pytest.mark.parametrize(("height", "left"), [(1 / 5, 0.1), (1 / 8, 0.1), (1 / 8, 0.85)])
def test_a_small_person_is_searched_for_if_something_else_is_taken_for_it(person: Portrait, height: float, left: float) -> None:
    picture, alpha = before_a_cup(person, height, left)
    found: list[float] = []
    for model in (ONE_PASS, PEOPLE):
        mask, info = run(picture, RemoveBackground(model=model, mask_only=True))
        found.append(intersection_over_union(mask[..., 0], alpha))
    assert info["passes"] > 2
    assert found[0] < 0.1
    assert found[1] > 0.85


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.webp", "hubble-deep-field.jpg"])
def test_a_search_finds_nobody_where_nobody_is(name: str) -> None:
    picture = to_bytes(photograph(name, 600, 400))
    without, _ = run(picture, RemoveBackground(model=ONE_PASS, mask_only=True))
    mask, info = run(picture, RemoveBackground(mask_only=True))
    assert info["passes"] > 2
    assert mask.mean() == pytest.approx(without.mean(), abs=0.02)


def test_a_small_person_in_a_large_picture_is_searched_for_in_a_reduced_one(person: Portrait) -> None:
    picture, alpha = before_a_cup(person, 1 / 5, 0.1)
    larger, opaque = picture.repeat(2, axis=0).repeat(2, axis=1), alpha.repeat(2, axis=0).repeat(2, axis=1)
    mask, info = run(larger, RemoveBackground(mask_only=True))
    assert info["passes"] > 2
    assert intersection_over_union(mask[..., 0], opaque) > 0.85


def test_a_small_picture_is_not_searched() -> None:
    picture = to_bytes(photograph("chelsea.png", 240, 200))
    assert run(picture, RemoveBackground(mask_only=True))[1]["passes"] <= 2


def test_progress_grows_during_a_search_and_a_cancelled_task_ends_in_it(person: Portrait) -> None:
    picture, _ = before_a_cup(person, 1 / 8, 0.1)
    source = Picture.of(Raster(memoryview(picture).cast("B"), picture.shape, "|u1"))
    session = Sessions(OnnxSettings()).get(PEOPLE, 1)
    task = CountingTask(cancel_at=1000)
    remove_background(source, RemoveBackground(), session, task)
    assert len(task.fractions) > 38
    assert task.fractions == sorted(set(task.fractions))
    assert task.fractions[-1] == 1
    stopped = CountingTask(cancel_at=40)
    with pytest.raises(TaskCancelled):
        remove_background(source, RemoveBackground(), session, stopped)
    assert 5 < len(stopped.fractions) < 38
