"""What all conditions have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from skytext.filters.columns import Need


class BaseCondition(BaseModel):
    """A condition that holds for some images and not for others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def sql(self) -> str:
        """Return the filter text."""
        return self._sql(negated=False)

    def key(self) -> str:
        """Return a short text that tells the condition from others."""
        return hashlib.sha256(self.sql().encode()).hexdigest()

    def needs(self) -> Iterator[Need]:
        """Yield what the table must have: nothing where a null is asked for."""
        yield from self._needs(negated=False)

    def parts(self) -> Sequence[BaseCondition]:
        """Return the conditions that this one is made of."""
        return ()

    def _sql(self, *, negated: bool) -> str:
        # Negations are carried inwards to the comparisons: no null matches one of those either.
        raise NotImplementedError

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        raise NotImplementedError

    def _null(self, *, negated: bool) -> str | None:
        """Return the field of which a null is asked for, and nothing else."""
        return None
