"""The base class of all conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from skytext.filters.columns import Need


class BaseCondition(BaseModel):
    """A condition that is true for some images and false for others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def sql(self) -> str:
        """Return the condition as a filter string for Lance."""
        return self._sql(negated=False)

    def key(self) -> str:
        """Return a short string that identifies the condition."""
        return hashlib.sha256(self.sql().encode()).hexdigest()

    def needs(self) -> Iterator[Need]:
        """Yield the fields that at least one image must have. A test for null needs no field."""
        yield from self._needs(negated=False)

    def parts(self) -> Sequence[BaseCondition]:
        """Return the conditions that are combined in this condition."""
        return ()

    def _sql(self, *, negated: bool) -> str:
        # A negation is not written as NOT. The argument ``negated`` passes the negation to the
        # comparisons inside. A negated comparison does not match null.
        raise NotImplementedError

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        raise NotImplementedError

    def _null(self, *, negated: bool) -> str | None:
        """Return the field that this condition tests for null. Other conditions return None."""
        return None
