"""Golden queries: the required search results and recall before a table is promoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skytext.config.yaml_text import parse_yaml
from skytext.errors import CallError
from skytext.evaluation.annotations import Query, file_name
from skytext.evaluation.input_files import read_json, read_json_lines, read_text
from skytext.evaluation.recall import KS
from skytext.evaluation.recall_intervals import Measured

Name = Literal["R@1", "R@5", "R@10", "mean_recall"]
Percent = Annotated[float, Field(ge=0, le=100)]
_MEAN = "mean_recall"
# 57 hits of 100 are 56.99… % in floating point. One more hit of a million queries is 1e-4 %.
_ROUNDING = 1e-9


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GoldenQuery(_Strict):
    """A query, its expected images, and the maximum rank of the first of them."""

    query: str = Field(min_length=1, pattern=r"\S")
    images: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    within: int | None = Field(None, ge=1, le=1000)


class Golden(_Strict):
    """Queries, and the required recall in percent over all of them."""

    queries: tuple[GoldenQuery, ...] = Field(min_length=1)
    thresholds: dict[Name, Percent] = {}

    def to_queries(self) -> tuple[Query, ...]:
        """Return the queries for `evaluate_queries`."""
        return tuple(
            Query(one.query, tuple(dict.fromkeys(map(file_name, one.images))))
            for one in self.queries
        )


@dataclass(frozen=True, slots=True)
class Check:
    """One required result.

    Attributes:
        name: name of the recall, or the query.
        wanted: minimum percent, or maximum rank.
        found: percent or rank; None if all expected images of a query are missing.
        passed: whether the requirement is met.
    """

    name: str
    wanted: float
    found: float | None
    passed: bool

    def __str__(self) -> str:
        found = "its images are missing" if self.found is None else f"{self.found:g}"
        return f"{self.name}: {found}, wanted {self.wanted:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The passed and failed checks."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}

    def lines(self) -> list[str]:
        """Return the failed checks, and a count of the passed ones."""
        failed = [check for check in self.checks if not check.passed]
        return [
            *(f"FAILED {check}" for check in failed),
            f"golden: {len(self.checks) - len(failed)} of {len(self.checks)} checks passed",
        ]


def read_golden(
    path: Path, at_least: Mapping[str, float] | None = None, *, must_check: bool = True
) -> Golden:
    """Read golden queries: YAML or JSON with ``thresholds`` and ``queries``, or lines of queries.

    Args:
        path: the file.
        at_least: thresholds in percent that go before the file's own.
        must_check: refuse a file by which nothing can fail.

    Raises:
        CallError: a missing or malformed file, a duplicate query, or nothing to check.
    """
    value = _read(path)
    if isinstance(value, dict):
        own = value.get("thresholds")
        # Anything other than a mapping is rejected by the model below.
        if own is None or isinstance(own, dict):
            value["thresholds"] = {**(own or {}), **(at_least or {})}
    try:
        golden = Golden.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CallError(f"{path}: {place}: {first['msg']}") from error
    texts = [one.query for one in golden.queries]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise CallError(f"{path} asks {twice!r} twice: name all of its images in one entry")
    if must_check and not golden.thresholds and all(one.within is None for one in golden.queries):
        raise CallError(
            f"{path} has nothing to check: give it thresholds (such as R@10: 90) or queries with "
            "within, or use --at-least R@10=90"
        )
    return golden


def judge(golden: Golden, row: Measured, asked: tuple[Query, ...]) -> Verdict:
    """Compare the measurements with the requirements.

    A query's rank is the worst possible one of its best expected image among equal scores.

    Args:
        golden: the requirements.
        row: the measurements.
        asked: the queries of ``row`` in order; a query that is missing here has failed.
    """
    recalls = dict(zip([f"R@{k}" for k in KS], row.recall["text_to_image"], strict=True))
    recalls[_MEAN] = row.mean_recall
    checks = [
        Check(name, wanted, recalls[name], recalls[name] >= wanted - _ROUNDING)
        for name, wanted in golden.thresholds.items()
    ]
    found = row.directions["text_to_image"].placings
    worst = found.better + found.tied - found.own + 1
    places = {query.text: int(place) for query, place in zip(asked, worst, strict=True)}
    for one in golden.queries:
        if one.within is not None:
            place = places.get(one.query)
            passed = place is not None and place <= one.within
            checks.append(Check(one.query, one.within, place, passed))
    return Verdict(tuple(checks))


def _read(path: Path) -> Any:
    kind = path.suffix.lower()
    if kind in (".jsonl", ".ndjson"):
        return {"queries": [query for _, query in read_json_lines(path)]}
    text = read_text(path)
    if kind == ".json":
        return read_json(text, str(path))
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise CallError(f"{path} is neither YAML nor JSON lines: {error}") from error
