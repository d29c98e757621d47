"""Build and run the captioning job: one streaming Ray Data execution.

plan (driver) → read → decode → caption (vLLM actors) → embed (actors) → write → commit.
No stage waits for the one before it to end, and memory stays flat however large the archive is.

* `plan_caption`, `plan_retry`: check everything that is cheap to check, before any work.
* `run_caption`: do it, and prove it from the table.
* `preview`: what `run_caption` would do.
* `plan_images`, `run_images`: give the images vectors of their own, by a CLIP-like model.
"""

from skytext.pipeline.image_plan import ImagePlan, plan_images
from skytext.pipeline.image_progress import ImageProgress, ImageSummary
from skytext.pipeline.image_run import run_images
from skytext.pipeline.plan import CaptionPlan, check_models, plan_caption, plan_retry
from skytext.pipeline.preview import Preview, preview
from skytext.pipeline.progress import Progress, RunSummary
from skytext.pipeline.run import run_caption

__all__ = [
    "CaptionPlan",
    "ImagePlan",
    "ImageProgress",
    "ImageSummary",
    "Preview",
    "Progress",
    "RunSummary",
    "check_models",
    "plan_caption",
    "plan_images",
    "plan_retry",
    "preview",
    "run_caption",
    "run_images",
]
