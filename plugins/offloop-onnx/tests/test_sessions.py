"""Sessions: opened while the worker loads, kept, refused, cancelled, and their errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import TensorProto

from offloop.errors import TaskFailed
from offloop.processor import TaskCancelled
from offloop.testing import InlineTask
from offloop_onnx import OnnxModel
from offloop_onnx.processor.sessions import Session, Sessions
from offloop_onnx.settings import OnnxSettings
from offloop_onnx.shipped_models import PEOPLE, PHOTO

from .conftest import Bench
from .tiny_networks import constant, network

IDENTITY: list[Any] = [("Identity", ["image"], "result", {})]


@pytest.fixture
def tensor(bench: Bench) -> OnnxModel:
    return bench.model(network(IDENTITY, shape=["n"]), input="tensor", output="tensor")


def sessions(directory: Path, *models: OnnxModel) -> Sessions:
    return Sessions(OnnxSettings((str(directory),), models))


def test_models_of_the_settings_are_open_before_the_first_task(tmp_path: Path, tensor: OnnxModel) -> None:
    opened = sessions(tmp_path, tensor)
    opened.open_all()
    Path(tensor.path).unlink()  # a task that had to open it would fail now
    assert opened.get(tensor, 1).run(np.ones(2, "f4"), InlineTask()).tolist() == [1, 1]


def test_a_model_is_opened_once_and_again_only_for_other_threads(tmp_path: Path, tensor: OnnxModel) -> None:
    opened = sessions(tmp_path)
    first = opened.get(tensor, 1)
    assert opened.get(tensor, 1) is first
    assert first.threads == 1
    assert opened.get(tensor, 2).threads == 2
    slow = opened.get(tensor, 2)
    slow.opening_s = 5.0
    assert opened.get(tensor, 1) is slow  # opening it again would take longer than more threads save


def test_a_session_has_no_arena_and_threads_that_do_not_spin(tmp_path: Path, tensor: OnnxModel) -> None:
    options = sessions(tmp_path).get(tensor, 2)._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def append_a_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def replace_by_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (append_a_byte, "model_refused", "has the sha256"),
        (Path.unlink, "model_refused", "cannot be read: No such file"),
        (replace_by_a_directory, "model_refused", "cannot be read: Is a directory|not a regular file"),
    ],
    ids=["changed", "missing", "directory"],
)
def test_a_file_that_is_not_the_model_is_refused(
    tmp_path: Path, tensor: OnnxModel, change: Callable[[Path], object], code: str, message: str
) -> None:
    change(Path(tensor.path))
    with pytest.raises(TaskFailed, match=message) as caught:
        sessions(tmp_path).get(tensor, 1)
    assert caught.value.code == code


def test_a_model_in_another_directory_is_refused_in_the_worker_too(tmp_path: Path, tensor: OnnxModel) -> None:
    with pytest.raises(TaskFailed, match="is in no directory") as caught:
        sessions(tmp_path / "other").get(tensor, 1)
    assert caught.value.code == "model_refused"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Path(PEOPLE.path).read_bytes()[:100_000], "cannot be opened"),
        (b"", "cannot be opened"),
        (network([("Nonsense", ["image"], "result", {})], shape=["n"]), "cannot be opened: .*Nonsense"),
        (
            network([("Identity", ["image"], "result", {})], shape=["n"], kind=TensorProto.STRING),
            r"has the inputs \(image: tensor\(string",
        ),
    ],
    ids=["truncated", "empty", "unknown operator", "texts"],
)
def test_a_file_that_is_no_usable_model_is_broken(bench: Bench, data: bytes, message: str) -> None:
    model = bench.model(data, input="tensor", output="tensor")
    with pytest.raises(TaskFailed, match=message) as caught:
        sessions(bench.directory).get(model, 1)
    assert caught.value.code == "model_broken"


def test_a_broken_model_of_the_settings_fails_only_the_tasks_that_need_it(
    bench: Bench, tensor: OnnxModel, caplog: pytest.LogCaptureFixture
) -> None:
    broken = bench.model(b"no model")
    opened = sessions(bench.directory, broken, tensor)
    opened.open_all()
    assert "cannot be opened" in caplog.text
    for _ in range(2):
        with pytest.raises(TaskFailed) as caught:
            opened.get(broken, 1)
        assert caught.value.code == "model_broken"
    assert opened.get(tensor, 1)
    assert opened.get(PHOTO, 1)


def test_weights_outside_of_the_file_are_not_read(bench: Bench) -> None:
    """ONNX allows weights in other files, which have no digest."""
    (bench.directory / "weights.bin").write_bytes(bytes(400))
    weights = constant("weights", np.zeros(100))
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": str(bench.directory / "weights.bin"), "offset": "0", "length": "400"}.items():
        weights.external_data.add(key=key, value=value)
    data = network([("Add", ["image", "weights"], "result", {})], shape=[100], constants=[weights])
    with pytest.raises(TaskFailed) as caught:
        sessions(bench.directory).get(bench.model(data, input="tensor", output="tensor"), 1)
    assert caught.value.code == "model_broken"


class CancelledInTheRun(InlineTask):
    """A task that is cancelled by another thread when the run begins."""

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Generator[None]:
        with super().on_cancel(callback):
            canceller = threading.Thread(target=self.cancel)
            canceller.start()
            canceller.join()
            yield


def test_a_run_is_terminated_and_the_session_is_good_for_the_next_one(tmp_path: Path, tensor: OnnxModel) -> None:
    session = sessions(tmp_path).get(tensor, 1)
    with pytest.raises(TaskCancelled):
        session.run(np.ones(2, "f4"), CancelledInTheRun())
    assert session.run(np.ones(2, "f4"), InlineTask()).tolist() == [1, 1]


def test_an_error_of_the_run_is_not_taken_for_a_cancellation(tmp_path: Path, bench: Bench) -> None:
    model = bench.model(network(IDENTITY, shape=[1, 3, 8, 8]), input="tensor", output="tensor")
    with pytest.raises(TaskFailed, match="Got invalid dimensions") as caught:
        sessions(tmp_path).get(model, 1).run(np.ones((1, 3, 9, 9), "f4"), InlineTask())
    assert caught.value.code == "model_failed"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_a_failure(tmp_path: Path, tensor: OnnxModel, value: float) -> None:
    with pytest.raises(TaskFailed, match="not finite") as caught:
        sessions(tmp_path).get(tensor, 1).run(np.array([1, value], "f4"), InlineTask())
    assert caught.value.code == "model_failed"


def test_an_input_of_another_dtype_is_converted(tmp_path: Path, bench: Bench) -> None:
    data = network(IDENTITY, shape=["n"], kind=TensorProto.FLOAT16)
    session: Session = sessions(tmp_path).get(bench.model(data, input="tensor", output="tensor"), 1)
    assert session.run(np.array([0.5], "f4"), InlineTask()).dtype == np.float16


def test_equal_files_with_other_declarations_are_models_of_their_own(tmp_path: Path, tensor: OnnxModel) -> None:
    opened = sessions(tmp_path)
    assert opened.get(replace(tensor, name="other"), 1) is not opened.get(tensor, 1)
