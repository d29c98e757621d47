"""Published results and their sources. An evaluation is compared with these results.

Each row has recall at 1, 5 and 10 in percent. The first three values are for image to text, and the
next three values are for text to image. The mean recall is the mean of these six values. A value is
None if the source does not report it. All results are for the test splits, which have 452 images
(RSITMD) and 1,093 images (RSICD). Each image has five captions.
"""

from __future__ import annotations

from dataclasses import dataclass

RS5M = "RS5M project's README (om-ai-lab/RS5M)"
TRSLLAVA = "arXiv 2512.10596, abstract"
COMPUTED = (
    "not published, but computed: images are sorted by scene class, with a random "
    "order in each class"
)

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Reference:
    """One row of a published table."""

    method: str
    kind: str
    mean_recall: float
    source: str
    image_to_text: Triple | None = None
    text_to_image: Triple | None = None


NUM_TEST_IMAGES = {"rsitmd": 452, "rsicd": 1093}

REFERENCES: dict[str, tuple[Reference, ...]] = {
    "rsitmd": (
        Reference(
            "a perfect scene classifier",
            "reference",
            32.4,
            COMPUTED,
            (7.1, 29.9, 51.4),
            (7.1, 33.6, 65.5),
        ),
        Reference(
            "CLIP ViT-B/32",
            "zero-shot",
            24.19,
            RS5M,
            (9.51, 23.01, 32.74),
            (8.81, 27.88, 43.19),
        ),
        Reference("CLIP, as TRSLLaVA measured it", "zero-shot", 23.86, TRSLLAVA),
        Reference(
            "GeoRSCLIP ViT-B/32",
            "zero-shot",
            35.33,
            RS5M,
            (17.92, 34.96, 46.02),
            (14.12, 41.46, 57.52),
        ),
        Reference(
            "GeoRSCLIP ViT-H/14",
            "zero-shot",
            40.38,
            RS5M,
            (23.45, 42.92, 53.32),
            (18.01, 44.60, 59.96),
        ),
        Reference("TRSLLaVA", "training-free", 42.62, TRSLLAVA),
        Reference("AMFMN", "supervised", 29.32, RS5M, (11.06, 29.20, 38.72), (9.96, 34.03, 52.96)),
        Reference("GaLR", "supervised", 31.41, RS5M, (14.82, 31.64, 42.48), (11.15, 36.68, 51.68)),
        Reference("SWAN", "supervised", 34.11, RS5M, (13.35, 32.15, 46.90), (11.24, 40.40, 60.60)),
        Reference("PIR", "supervised", 38.24, RS5M, (18.14, 41.15, 52.88), (12.17, 41.68, 63.41)),
        Reference("PE-RSITR", "tuned", 44.47, RS5M, (23.67, 44.07, 60.36), (20.10, 50.63, 67.97)),
        Reference("RemoteCLIP", "tuned", 49.38, RS5M, (27.88, 50.66, 65.71), (22.17, 56.46, 73.41)),
        Reference(
            "GeoRSCLIP-FT (RET-2)",
            "tuned",
            51.81,
            RS5M,
            (32.30, 53.32, 67.92),
            (25.04, 57.88, 74.38),
        ),
    ),
    "rsicd": (
        Reference(
            "a perfect scene classifier",
            "reference",
            14.5,
            COMPUTED,
            (2.8, 13.5, 25.5),
            (2.8, 14.2, 28.4),
        ),
        Reference(
            "CLIP ViT-B/32", "zero-shot", 15.74, RS5M, (5.31, 14.18, 23.70), (5.78, 17.73, 27.76)
        ),
        Reference(
            "GeoRSCLIP ViT-B/32",
            "zero-shot",
            26.06,
            RS5M,
            (12.17, 28.45, 38.61),
            (9.31, 26.51, 41.28),
        ),
        Reference(
            "GeoRSCLIP ViT-H/14",
            "zero-shot",
            28.48,
            RS5M,
            (14.27, 29.55, 40.44),
            (11.38, 30.80, 44.41),
        ),
        Reference("TRSLLaVA", "training-free", 31.33, TRSLLAVA),
        Reference("AMFMN", "supervised", 16.42, RS5M),
        Reference("GaLR", "supervised", 18.96, RS5M),
        Reference("SWAN", "supervised", 20.61, RS5M),
        Reference("PIR", "supervised", 24.46, RS5M),
        Reference("RemoteCLIP", "tuned", 35.26, RS5M, (17.02, 37.97, 51.51), (13.71, 37.11, 54.25)),
        Reference(
            "GeoRSCLIP-FT (RET-2)",
            "tuned",
            38.87,
            RS5M,
            (21.13, 41.72, 55.63),
            (15.59, 41.19, 57.99),
        ),
    ),
}
"""The published rows of each benchmark, in the order of the report."""
