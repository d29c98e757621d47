from __future__ import annotations

import errno

from ray.exceptions import RayTaskError

from skytext.errors import JobError
from skytext.run.control.cluster import job_error


def failed(cause: Exception) -> RayTaskError:
    return RayTaskError("f", "Traceback (most recent call last): …", cause)


def test_a_disk_error_on_a_worker_is_raised_unchanged() -> None:
    for cause in (OSError(errno.ENOSPC, "full", "/x"), OSError("LanceError(IO): (os error 28)")):
        assert job_error(failed(cause)) is cause


def test_another_failure_names_the_logs() -> None:
    told = job_error(failed(OSError("body error\nand more")))
    assert isinstance(told, JobError)
    assert str(told).startswith("the job stopped: OSError: body error (committed work is kept; ")
    assert "the logs under " in str(told)
