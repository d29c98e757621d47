"""Build and run the captioning job: one streaming Ray Data execution.

plan (driver) → read → decode → caption (vLLM actors) → embed (actors) → write → commit.
No stage waits for the one before it to end, and memory stays flat however large the archive is.

* `plan_caption`, `plan_retry`: check everything that is cheap to check, before any work.
* `run_caption`: do it, and prove it from the table.
* `preview`: what `run_caption` would do.
"""

from skytext.pipeline.plan import CaptionPlan, check_models, plan_caption, plan_retry
from skytext.pipeline.preview import Preview, preview
from skytext.pipeline.progress import Progress, RunSummary
from skytext.pipeline.run import run_caption

__all__ = [
    "CaptionPlan",
    "Preview",
    "Progress",
    "RunSummary",
    "check_models",
    "plan_caption",
    "plan_retry",
    "preview",
    "run_caption",
]
