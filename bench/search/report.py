"""Format all results as Markdown."""

from __future__ import annotations

from typing import Any

_LARGE = {
    "skytext": "skytext",
    "copied": "the same, rows copied",
    "equal": "the same, rows copied, `search_effort` 0.45",
    "lance": "the same index, Lance alone",
    "exact": "exact, NumPy",
    "faiss": "faiss IVF-PQ",
    "lancedb": "LanceDB's defaults",
}
_COLUMNS = {
    "recall@10": ("recall_at_10", ".3f"),
    "p50, ms": ("p50_ms", ".1f"),
    "p50 / Lance alone": ("p50_to_lance", ".2f"),
    "p99, ms": ("p99_ms", ".1f"),
    "queries/s, 8 clients": ("queries_per_s", ",.0f"),
    "build, s": ("build_s", ",.0f"),
    "peak building, MiB": ("build_peak_mib", ",.0f"),
    "peak serving, MiB": ("serve_peak_mib", ",.0f"),
    "index, bytes an image": ("index_bytes_per_image", ",.0f"),
}


def markdown(results: dict[str, Any]) -> str:
    """Return the tables of all measured sections."""
    parts = []
    if "table" in results:
        found = results["table"]
        written = "there before" if found["write_s"] is None else f"{found['write_s']:,.0f} s"
        parts.append(
            f"{found['num_images']:,} images × 5 × 384 (written: {written}), "
            f"{found['bytes_per_image']:,} bytes an image without indexes"
        )
    large = {
        label: _with_ratio(results[name], results.get("lance"))
        for name, label in _LARGE.items()
        if name in results
    }
    if large:
        parts.append(_systems(large))
    if "hnsw" in results:
        parts.append("100,000 images\n\n" + _systems(results["hnsw"]))
    if "growth" in results:
        rows = {f"{int(size):,} images": found for size, found in results["growth"].items()}
        if "skytext" in results:
            rows["the large table"] = results["skytext"]
        parts.append(_systems(rows))
    if "filtered" in results:
        parts.append("A filter that keeps 0.1 % of the rows\n\n" + _systems(results["filtered"]))
    if "filters" in results:
        parts.append(_filters(results["filters"]))
    if "embedding" in results:
        parts.append(_embedding(results["embedding"]))
    return "\n\n".join(parts)


def _with_ratio(found: dict[str, Any], lance: dict[str, Any] | None) -> dict[str, Any]:
    """Add the ratio of the median latencies of a system and of Lance alone."""
    if lance is None or "p50_ms" not in found or "p50_ms" not in lance:
        return found
    return found | {"p50_to_lance": found["p50_ms"] / lance["p50_ms"]}


def _filters(found: dict[str, dict[str, Any]]) -> str:
    """Return a table with one line for each filter."""
    lines = [
        "| a filter keeps | queries | recall@10 | short | other hits without the index | p50, ms "
        "| p99, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for part, one in found.items():
        lines.append(
            f"| {float(part) * 100:g} % ({one['num_matches']:,}) | {one['num_queries']:,} "
            f"| {one['recall_at_10']:.4f} | {one['num_short']} "
            f"| {one['num_different']} of {one['num_exact']} "
            f"| {one['p50_ms']:.1f} | {one['p99_ms']:.1f} |"
        )
    return "\n".join(lines)


def _systems(rows: dict[str, dict[str, Any]]) -> str:
    """Return a table with one line for each system.

    If a build reached its time limit, the line shows this.
    """
    shown = {
        title: column
        for title, column in _COLUMNS.items()
        if any(column[0] in found for found in rows.values())
    }
    lines = ["| | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for name, found in rows.items():
        if "given_up_after_s" in found:
            lines.append(f"| {name} | not built after {found['given_up_after_s']:,.0f} s |")
            continue
        cells = [format(found[key], form) if key in found else "–" for key, form in shown.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _embedding(found: dict[str, Any]) -> str:
    sets = list(found["mean_recall_sets"])
    lines = [
        "| | texts/s | to bare `encode` | " + " | ".join(f"mean recall, {s}" for s in sets) + " |",
        "|---" * (len(sets) + 3) + "|",
    ]
    for name, row in found["ways"].items():
        recalls = ["–"] * len(sets)
        if "mean_recall" in row:
            recalls = [
                f"{row['mean_recall'][s]:.2f} ({row['mean_recall_change'][s]:+.2f})" for s in sets
            ]
        lines.append(
            f"| {name} | {row['texts_per_s']:.0f} | {row['ratio']:.2f} | {' | '.join(recalls)} |"
        )
    lines.append(f"\nChosen here: {found['chosen']} (loses less than {found['limit']} point)")
    return "\n".join(lines)
