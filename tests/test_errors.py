from __future__ import annotations

import errno
import inspect
import pickle

import pytest

from skytext import errors
from skytext.errors import (
    CallError,
    JobError,
    Reason,
    SampleError,
    SkytextError,
    Stage,
)

PARENTS = {
    "SkytextError": "Exception",
    "CallError": "SkytextError",
    "AddressError": "CallError",
    "ConfigError": "CallError",
    "SourceError": "CallError",
    "ModelError": "CallError",
    "TableError": "CallError",
    "CapacityError": "CallError",
    "SampleError": "SkytextError",
    "JobError": "SkytextError",
    "TableHeldError": "JobError",
    "CommitConflictError": "JobError",
    "StoreFaultError": "JobError",
    "FailureRateError": "JobError",
    "InterruptedRunError": "JobError",
    "IncompleteRunError": "JobError",
    "BrokenListingError": "JobError",
    "IndexRecallError": "JobError",
}


def classes() -> dict[str, type[Exception]]:
    members = inspect.getmembers(errors, inspect.isclass)
    return {name: cls for name, cls in members if issubclass(cls, Exception)}


def test_the_error_classes_match_the_documented_tree() -> None:
    assert {name: cls.__base__.__name__ for name, cls in classes().items()} == PARENTS
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in PARENTS)


@pytest.mark.parametrize("name", PARENTS)
def test_a_wrong_call_exits_2_failed_work_1_and_an_interrupt_130(name: str) -> None:
    cls = classes()[name]
    assert issubclass(cls, SkytextError)
    expected = 2 if issubclass(cls, CallError) else 1
    assert cls.exit_status == (130 if name == "InterruptedRunError" else expected)


@pytest.mark.parametrize("name", sorted(set(PARENTS) - {"SampleError"}))
def test_errors_cross_processes(name: str) -> None:
    error = pickle.loads(pickle.dumps(classes()[name]("what, where, what next")))
    assert type(error).__name__ == name
    assert str(error) == "what, where, what next"


def test_a_sample_error_crosses_processes_whole() -> None:
    error = SampleError(Stage.CAPTION, Reason.NO_GOOD_VARIANT, "cut off", attempts=3)
    again = pickle.loads(pickle.dumps(error))
    assert (again.stage, again.reason, again.detail, again.attempts) == (
        Stage.CAPTION,
        Reason.NO_GOOD_VARIANT,
        "cut off",
        3,
    )
    assert str(again) == str(error) == "caption: no_good_variant: cut off"


def test_a_detail_is_one_short_line() -> None:
    error = SampleError(Stage.DECODE, Reason.EMPTY, " two\n lines\tand \r\n more ")
    assert error.detail == "two lines and more"
    assert error.attempts == 1
    long = SampleError(Stage.DECODE, Reason.EMPTY, "x" * 9999)
    assert len(long.detail) == SampleError.MAX_DETAIL_CHARS == 500


def test_stages_and_reasons_are_the_texts_that_are_stored() -> None:
    assert {stage.value for stage in Stage} == {"read", "decode", "caption", "embed"}
    for reason in Reason:
        assert reason.value == reason.name.lower()


def test_failed_work_is_not_a_call_error() -> None:
    assert not issubclass(JobError, CallError)
    assert not issubclass(SampleError, (CallError, JobError))


def test_disk_errors_of_python_and_rust_get_the_same_message() -> None:
    of_python = OSError(errno.ENOSPC, "text", "/x/y")
    of_rust = OSError('LanceError(IO): (os error 30) at path "/t/a", rust/lance-io/src/x.rs:1:2')
    message = "No space left on device: /x/y: free some space, and then run the same command again"
    assert errors.disk_failure(of_python, "elsewhere") == message
    assert str(errors.disk_failure(of_rust, "/t")).startswith("Read-only file system: /t/a: ")
    without_path = RuntimeError("no space (os error 28)")
    assert str(errors.disk_failure(without_path, "/t")).startswith("No space left on device: /t: ")
    for other in (OSError("body error"), ConnectionRefusedError(errno.ECONNREFUSED, "refused")):
        assert errors.disk_failure(other, "/t") is None
