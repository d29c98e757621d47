from __future__ import annotations

import errno
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from skytext.config.settings import Config
from skytext.errors import JobError
from skytext.run.cluster.cluster import job_error, local_ray


def failed(cause: Exception) -> RayTaskError:
    return RayTaskError("f", "Traceback (most recent call last): …", cause)


def test_a_disk_error_on_a_worker_is_raised_unchanged() -> None:
    for cause in (OSError(errno.ENOSPC, "full", "/x"), OSError("LanceError(IO): (os error 28)")):
        assert job_error(failed(cause)) is cause


def test_another_failure_names_the_logs() -> None:
    error = job_error(failed(OSError("body error\nand more")))
    assert isinstance(error, JobError)
    assert str(error).startswith("the job stopped: OSError: body error (committed work is kept. ")
    assert "the logs under " in str(error)


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen")  # noqa: TRY002

    monkeypatch.setattr(ray, "init", fail)
    with (
        pytest.raises(JobError, match="cannot start a local Ray: The current node timed out"),
        local_ray(Config()),
    ):
        raise AssertionError
