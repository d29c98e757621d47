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
        """Yield the fields that the table must have. A test for null needs no field."""
        yield from self._needs(negated=False)

    def parts(self) -> Sequence[BaseCondition]:
        """Return the conditions that this condition consists of."""
        return ()

    def _sql(self, *, negated: bool) -> str:
        # ``negated`` is passed down to the comparisons. A negated comparison also excludes null.
        raise NotImplementedError

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        raise NotImplementedError

    def _null(self, *, negated: bool) -> str | None:
        """Return the field if this condition only tests one field for null, else None."""
        return None
