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
        """Return the filter text for Lance."""
        return self._sql(negated=False)

    def key(self) -> str:
        """Return a short text that identifies the condition."""
        return hashlib.sha256(self.sql().encode()).hexdigest()

    def needs(self) -> Iterator[Need]:
        """Yield the fields that the table must have; a test for null needs no field."""
        yield from self._needs(negated=False)

    def parts(self) -> Sequence[BaseCondition]:
        """Return the conditions that this one consists of."""
        return ()

    def _sql(self, *, negated: bool) -> str:
        # Negations are pushed down to the comparisons: a negated comparison excludes nulls, too.
        raise NotImplementedError

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        raise NotImplementedError

    def _null(self, *, negated: bool) -> str | None:
        """Return the field if this is only a test of one field for null."""
        return None
