"""The names and versions of the served tables. The service searches all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skytext.errors import CallError, ConfigError
from skytext.search.searcher import check_named_once, check_same_models
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.vector_columns import VectorColumn

VersionOfEach = tuple[int, ...]
"""One version number per table, in the order of the tables."""


@dataclass(frozen=True, slots=True)
class TableSet:
    """The addresses and names of the tables that one service searches.

    Attributes:
        locations: the addresses of the tables. There is at least one table.
        names: the name of each table. A name is the last part of the address. If this part is not
            unique, the name consists of as many of the last parts as are needed to make the name
            unique. Responses contain these names instead of addresses.
    """

    locations: tuple[TableLocation, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, tables: Sequence[str]) -> TableSet:
        """Parse the addresses of tables.

        Raises:
            AddressError: an address is invalid.
            CallError: no table is given, or a table is given twice.
            TableError: for the same reasons as in `TableLocation.parse`.
        """
        locations = tuple(map(TableLocation.parse, tables))
        check_named_once(locations)
        return cls(locations, _names([location.uri for location in locations]))

    @property
    def private_names(self) -> dict[str, str]:
        """A dictionary from the address of a table to the name that error messages contain instead.

        The longest address is first. Each table has two keys, because this package and Lance write
        the address in different forms.
        """
        shown = ("TABLE",) if len(self.names) == 1 else self.names
        found: dict[str, str] = {}
        for location, name in zip(self.locations, shown, strict=True):
            found |= {location.uri: name, location.uri.lstrip("/"): name}
        return dict(sorted(found.items(), key=lambda item: -len(item[0])))

    def place(self, name: str) -> int:
        """Return the index of a table.

        Raises:
            CallError: no table has this name.
        """
        if name not in self.names:
            raise CallError(f"table must be one of {', '.join(self.names)} (given: {name[:100]!r})")
        return self.names.index(name)

    def place_or_only(self, name: str | None) -> int:
        """Return the index of a table. The name may be None if there is only one table.

        Raises:
            CallError: no table has this name. Or no name is given, and there are several tables.
        """
        if name is None and len(self.names) > 1:
            raise CallError(f"table is required, and must be one of {', '.join(self.names)}")
        return 0 if name is None else self.place(name)

    def open_served(self, version: int | None = None) -> list[ImagesTable]:
        """Open the promoted version of each table.

        If no version of a table is promoted, open the latest version of this table.

        Args:
            version: the version to open instead of the promoted version. It must be None if there
                are several tables.

        Raises:
            ConfigError: a version is given, and there are several tables.
            TableError: a table or the version does not exist. Or the vectors of the tables were
                made with different models.
        """
        if version is not None and len(self.locations) > 1:
            raise ConfigError(
                "--version (service.version) needs a single table: to serve the live versions of "
                "several tables, omit the version"
            )
        tables = [ImagesTable.open_served(location, version) for location in self.locations]
        check_same_models(tables, with_images=False)
        return tables

    def open(self, versions: VersionOfEach) -> list[ImagesTable]:
        """Open a version of each table.

        Raises:
            TableError: a version does not exist. Or the vectors of the tables were made with
                different models.
        """
        tables = [
            ImagesTable.open(location, version)
            for location, version in zip(self.locations, versions, strict=True)
        ]
        check_same_models(tables, with_images=False)
        return tables


def _names(uris: Sequence[str]) -> tuple[str, ...]:
    parts = [uri.split("/") for uri in uris]

    def name(one: list[str]) -> str:
        ends = (one[-num:] for num in range(1, len(one)))
        own = (end for end in ends if sum(other[-len(end) :] == end for other in parts) == 1)
        return "/".join(next(own, one)).strip("/")

    return tuple(map(name, parts))


def promoted_versions(tables: Sequence[ImagesTable], served: VersionOfEach) -> VersionOfEach:
    """Return the promoted version of each table.

    If no version of a table is promoted, use the version in ``served`` for this table.
    """
    return tuple(table.live_version() or one for table, one in zip(tables, served, strict=True))


def followed_canary(tables: Sequence[ImagesTable], pinned: int | None) -> VersionOfEach | None:
    """Return the version of the running canary, or None if the service has no canary.

    Args:
        tables: the served tables. If there are several tables, the service has no canary.
        pinned: the version in the setting ``service.version``. If it is not None, the service has
            no canary.
    """
    version = tables[0].canary_version() if pinned is None and len(tables) == 1 else None
    return None if version is None else (version,)


def common_image_column(tables: Sequence[ImagesTable]) -> VectorColumn | None:
    """Return the column of image vectors in the first table.

    If not all tables have image vectors of the same model, return None.
    """
    first = tables[0].image_column
    if first is None:
        return None
    columns = [table.image_column for table in tables]
    return first if all(column and column.fits(first) for column in columns) else None


def version_token(versions: VersionOfEach) -> int | str:
    """Return versions in the form that the API uses.

    For one table this is a number. For several tables it is a string of numbers, joined by commas.
    """
    return versions[0] if len(versions) == 1 else ",".join(map(str, versions))


def parse_version(token: int | str | None) -> VersionOfEach | None:
    """Parse a result of `version_token`. For None, return None."""
    return None if token is None else tuple(map(int, str(token).split(",")))
