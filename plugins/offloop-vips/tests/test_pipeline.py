"""Order of the operations in a pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.errors import InvalidTask
from offloop.operation import Attachment, Operation
from offloop.plugins.attachments import AttachmentNumbers
from offloop_vips import AutoOrient, Blur, Decode, Jpeg, Png, Raw, Resize, VipsPlugin, Webp
from offloop_vips.pipeline import Pipeline


@pytest.mark.parametrize(
    "operations",
    [[Blur(), Decode()], [Decode(), Decode()], [Jpeg(), Blur()], [Jpeg(), Png()], [Raw(), Webp()], [Decode(), Raw(), Raw()]],
)
def test_an_operation_in_the_wrong_position_is_refused(operations: list[Operation]):
    with pytest.raises(InvalidTask, match=r"first step|ends a pipeline"):
        Pipeline.of(operations, encoded=True)


def test_operations_are_sorted_by_role():
    pipeline = Pipeline.of([Decode(page=1), Blur(), Resize(1), Webp()], encoded=True)
    assert pipeline == Pipeline(Decode(page=1), (Blur(), Resize(1)), Webp())
    assert Pipeline.of([], encoded=True) == Pipeline(Decode(), (), None)


def test_first_resize_is_only_a_resize_that_is_the_first_step():
    assert Pipeline.of([Resize(1)], encoded=True).first_resize == (Resize(1), True)
    assert Pipeline.of([Decode(auto_orient=False), Resize(1)], encoded=True).first_resize == (Resize(1), False)
    assert Pipeline.of([Decode(auto_orient=False), AutoOrient(), Resize(1)], encoded=True).first_resize == (Resize(1), True)
    assert Pipeline.of([Blur(), Resize(1)], encoded=True).first_resize is None
    assert Pipeline.of([], encoded=True).first_resize is None


UNIT = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
REQUIRED: dict[str, tuple[Any, ...]] = {
    "Affine": ((1, 0, 0, 1),),
    "Clahe": (3, 3),
    "Composite": (Attachment.at(1),),
    "Convolve": (1, 1, (1,)),
    "Extend": (1,),
    "Extract": (0, 0, 1, 1),
    "ExtractChannel": ("red",),
    "JoinChannel": (Attachment.at(1),),
    "Metadata": (("exif",),),
    "Modulate": (2,),
    "Recomb": (UNIT,),
    "Resize": (20, 30),
    "Rotate": (12.5,),
    "RoundCorners": (5,),
    "Text": ("a",),
    "Tint": ("red",),
    "Watermark": (Attachment.at(1),),
}


@pytest.mark.parametrize("operation", VipsPlugin.operations)
def test_every_operation_can_be_encoded_and_decoded(operation: type[Operation]):
    arguments = REQUIRED.get(operation.__name__, ())
    made = operation(*arguments)
    (sent,) = AttachmentNumbers().numbered([made])
    assert sent == made


def test_an_operation_of_another_plugin_is_refused(bench: Any, quarters: Any):
    class Emboss(Operation, frozen=True):
        pass

    with pytest.raises(InvalidTask, match=r"Emboss\(\) is not an operation of offloop-vips"):
        bench.run(quarters, Emboss())
