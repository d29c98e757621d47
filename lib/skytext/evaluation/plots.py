"""Plot recall against k, and recall against the number of variants.

The plots need matplotlib (the extra ``plots`` of this package).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from skytext.errors import ConfigError
from skytext.evaluation.recall_intervals import CURVE_KS, Measured
from skytext.evaluation.report import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECALL_AT_K = "recall_at_k.png"
RECALL_BY_VARIANTS = "recall_by_variants.png"
_STYLES = ("-", "--", ":", "-.")
_NUM_COLOURS = 10
"""Number of colours in matplotlib's colour cycle.

After this number of lines, the next line style is used.
"""
_TITLES = {"image_to_text": "image to text", "text_to_image": "text to image"}


def check_plots() -> None:
    """Check that matplotlib is installed.

    Raises:
        ConfigError: matplotlib is missing.
    """
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "plots need matplotlib, which is not installed. To install it, run: "
            "pip install 'skytext[plots]'"
        )


def draw_plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Plot an evaluation, and return the PNG files by file name.

    Recall against the number of variants is plotted only if setups with different numbers of
    variants were measured.

    Raises:
        ConfigError: matplotlib is missing.
    """
    check_plots()
    drawn = {RECALL_AT_K: _draw_recall_at_k(evaluation)}
    lines = lines_by_variants(evaluation.rows)
    if lines:
        drawn[RECALL_BY_VARIANTS] = _draw_by_variants(evaluation, lines)
    return drawn


def lines_by_variants(
    rows: Sequence[Measured],
) -> dict[str, list[tuple[int, float, float, float]]]:
    """Return the lines of the plot of recall against the number of variants.

    The rows of one line differ only in the number of variants. Each point has four values: number
    of variants, mean recall, lower end of the interval, upper end of the interval.
    """
    lines: dict[str, list[tuple[int, float, float, float]]] = {}
    for row in rows:
        count = row.setup.get("num_variants")
        if count is not None:
            point = (int(count), row.mean_recall, *row.mean_interval)
            lines.setdefault(_without_count(row.setup), []).append(point)
    return {name: sorted(points) for name, points in lines.items() if len(points) > 1}


def _without_count(setup: Mapping[str, Any]) -> str:
    names = ("mode", "pooling", "fusion", "text_weight", "granularity", "embedder")
    parts = [str(setup[name]) for name in names if setup.get(name) not in (None, "all")]
    if "repeats_removed" in setup:
        parts.append("repeats removed" if setup["repeats_removed"] else "repeats kept")
    return ", ".join(parts)


def _draw_recall_at_k(evaluation: Evaluation) -> bytes:
    from matplotlib.figure import Figure

    keys = [key for key in _TITLES if key in evaluation.rows[0].curves]
    height = 4.4 + 0.22 * len(evaluation.rows)
    figure = Figure(figsize=(6.4 * len(keys), height), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        for i, row in enumerate(evaluation.rows):
            style = _STYLES[i // _NUM_COLOURS % len(_STYLES)]
            axes.plot(CURVE_KS, row.curves[key], style, marker=".", label=row.name)
        axes.set_xscale("log")
        axes.set_xticks(CURVE_KS, [str(k) for k in CURVE_KS], minor=False)
        axes.minorticks_off()
        axes.set(xlabel="k", ylabel="recall at k, percent", ylim=(0, 100), title=_TITLES[key])
        axes.grid(alpha=0.3)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", fontsize="small")
    figure.suptitle(evaluation.headline(), fontsize="small")
    return _png(figure)


def _draw_by_variants(
    evaluation: Evaluation,
    lines: Mapping[str, Sequence[tuple[int, float, float, float]]],
) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4 + 0.22 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        counts, means, lows, highs = zip(*points, strict=True)
        [line] = axes.plot(counts, means, marker="o", label=name)
        axes.fill_between(counts, lows, highs, alpha=0.15, color=line.get_color())
    axes.set_xticks(sorted({point[0] for points in lines.values() for point in points}))
    axes.set(xlabel="maximum number of variants per image", ylabel="mean recall, percent")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small")
    figure.suptitle(f"{evaluation.headline()}; shaded: 95 % interval", fontsize="small")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, dpi=120, format="png")
    return out.getvalue()
