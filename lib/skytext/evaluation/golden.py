"""Golden queries.

They define the search results and the recall that a version must reach before it is promoted.
"""

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
# Tolerance for rounding errors in percent. In floating point, 57 hits of 100 queries are 56.99… %.
# The tolerance is smaller than the effect of one hit in a million queries, which is 1e-4 %.
_ROUNDING = 1e-9


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GoldenQuery(_Strict):
    """A query with its expected images.

    ``within`` is the maximum rank of the first expected image in the results.
    """

    query: str = Field(min_length=1, pattern=r"\S")
    images: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    within: int | None = Field(None, ge=1, le=1000)


class Golden(_Strict):
    """Golden queries, and the required recall of all queries together, in percent."""

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
    """One check. It compares a measured value with the required value.

    Attributes:
        name: the name of the recall (such as R@10), or the text of the query.
        wanted: the required minimum recall in percent, or the required maximum rank.
        found: the measured recall in percent, or the measured rank. None if all expected images of
            the query are missing.
        passed: true if the measured value meets the requirement.
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
        """Return one line for each failed check, and a line with the number of passed checks."""
        failed = [check for check in self.checks if not check.passed]
        return [
            *(f"FAILED {check}" for check in failed),
            f"golden: {len(self.checks) - len(failed)} of {len(self.checks)} checks passed",
        ]


def read_golden(
    path: Path, at_least: Mapping[str, float] | None = None, *, must_check: bool = True
) -> Golden:
    """Read golden queries from a YAML file, a JSON file, or a JSON lines file.

    A YAML or JSON file has the keys ``thresholds`` and ``queries``. In a JSON lines file, each line
    is a query.

    Args:
        path: the file.
        at_least: thresholds in percent. They replace thresholds of the same name in the file.
        must_check: if true, a file without any requirement is an error.

    Raises:
        CallError: the file is missing or malformed, a query occurs twice, or the file has nothing
            to check.
    """
    value = _read(path)
    if isinstance(value, dict):
        own = value.get("thresholds")
        # If the thresholds are not a mapping, the validation below raises an error.
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
        raise CallError(
            f"{path} contains the query {twice!r} twice: put all images of this query in one entry"
        )
    if must_check and not golden.thresholds and all(one.within is None for one in golden.queries):
        raise CallError(
            f"{path} has nothing to check: add thresholds (such as R@10: 90), add 'within' to "
            "a query, or use --at-least R@10=90"
        )
    return golden


def judge(golden: Golden, row: Measured, asked: tuple[Query, ...]) -> Verdict:
    """Compare measurements with the requirements of golden queries.

    The rank of a query is the rank of its best expected image. If other images have the same score,
    the worst possible rank is used.

    Args:
        golden: the requirements.
        row: the measurements.
        asked: the queries that were measured in ``row``, in the same order. A golden query that is
            not in ``asked`` counts as failed.
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
