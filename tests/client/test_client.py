"""Test the client with the real application in one process."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import json
import textwrap
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import skytext.client
import skytext_client as package
from skytext.archive.shards import image_id
from skytext.client import (
    AsyncClient,
    Client,
    ClientError,
    ServiceError,
    TooBusyError,
    UnreachableError,
)
from skytext.service.access.api_keys import KeyStore, Right
from skytext.service.http.json_bodies import SearchBody
from skytext.table.location import TableLocation
from skytext_client.search_fields import Search
from tests.service.app import Application, make_config
from tests.service.app import client as in_process
from tests.service.tables import encoded, make_served_table


class Through(httpx.BaseTransport):
    """A transport that passes requests to an application in this process. It is needed because
    Starlette's client uses httpx2."""

    def __init__(self, http: Any) -> None:
        self._http = http

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._http.request(
            request.method,
            request.url.raw_path.decode(),
            content=request.read(),
            headers=dict(request.headers),
        )
        headers = dict(answer.headers)
        headers.pop("content-encoding", None)
        return httpx.Response(answer.status_code, headers=headers, content=answer.content)


RIVER = image_id("aerial", "a.tar", "river.jpg", 0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    make_served_table(folder)
    return folder / "table"


@pytest.fixture(scope="module")
def archive(served: Path) -> Iterator[Client]:
    with in_process(served) as http, Client("http://localhost", transport=Through(http)) as ours:
        yield ours


def test_a_search_is_typed(archive: Client) -> None:
    found = archive.search("a brown river", k=3, filter="gsd < 1")
    assert len(found) == 2
    assert found[0].image_id == RIVER
    assert found[0].bbox == (4.0, 51.0, 4.5, 51.5)
    assert found[0].datetime is not None
    assert found.table_version == archive.table().table_version


def test_a_geometry_is_met(archive: Client) -> None:
    corners = [[4, 51], [4.5, 51], [4.5, 51.5], [4, 51]]
    met = archive.search("planes", intersects={"type": "Polygon", "coordinates": [corners]})
    assert [hit.image_id for hit in met.hits] == [RIVER]


def test_cql2_json_is_a_filter(archive: Client) -> None:
    condition = {
        "op": "s_intersects",
        "args": [{"property": "geometry"}, {"bbox": [3, 50, 5, 52]}],
    }
    assert [hit.image_id for hit in archive.search("planes", filter=condition).hits] == [RIVER]


def test_hits_become_a_frame(archive: Client) -> None:
    frame = archive.search("a river", k=4).to_frame()
    assert list(frame["rank"]) == [1, 2, 3, 4]
    assert frame["score"].is_monotonic_decreasing
    nothing = archive.search("a river", filter="gsd > 100").to_frame()
    assert len(nothing) == 0
    assert list(nothing.columns) == list(frame.columns)


def test_hits_become_geojson(archive: Client) -> None:
    found = archive.search("a river", k=4).to_geojson()
    assert [feature["properties"]["rank"] for feature in found["features"]] == [1, 2, 3, 4]


def test_a_batch_is_one_answer_a_search(archive: Client) -> None:
    answers = archive.search_batch(["a brown river", {"text": "dense forest", "k": 1}])
    assert [answer[0].one_sentence for answer in answers] == ["a brown river", "dense forest"]


def test_images_and_thumbnails(archive: Client) -> None:
    hit = archive.search("a brown river", k=1)[0]
    row = archive.image(hit)
    assert row.captions is not None
    assert len(row.captions) == 2
    assert archive.read_image(hit) == encoded("brown")
    assert archive.thumbnail(RIVER, 128).startswith(b"RIFF")
    version = row.table_version
    assert archive.image(hit, version=version) == row
    assert archive.read_image(hit, version=version) == encoded("brown")
    with pytest.raises(ServiceError, match="410 version-gone"):
        archive.thumbnail(hit, version=version + 100)


def test_errors_contain_the_message_of_the_service(archive: Client) -> None:
    with pytest.raises(ServiceError, match="two values cannot be compared") as caught:
        archive.search("a", filter="1=1")
    assert (caught.value.status, caught.value.code) == (422, "bad-request")
    assert caught.value.request_id
    with pytest.raises(ServiceError) as missing:
        archive.image("../../v1/table")
    assert missing.value.status in (404, 422)
    with pytest.raises(ServiceError) as none:
        archive.search_image(encoded("red"))
    assert none.value.status == 501
    with pytest.raises(ClientError, match="cannot read"):
        archive.search_image("/nowhere.jpg")
    with pytest.raises(ClientError, match="is not a valid address"):
        Client("search.example.org")


def test_a_key_is_sent(tmp_path: Path) -> None:
    make_served_table(tmp_path)
    table = tmp_path / "table"
    key = KeyStore(TableLocation.parse(str(table))).add("a", Right.ADMIN)
    with in_process(table, access__require_keys=True) as http:
        with Client("http://localhost", key=key, transport=Through(http)) as ours:
            latest = ours.table().latest_version
            assert ours.promote(latest - 1) == latest - 1
            assert ours.promote() == latest
            assert ours.rollback() == latest - 1
            assert ours.search("a").table_version == latest - 1
        with (
            Client("http://localhost", transport=Through(http)) as client,
            pytest.raises(ServiceError) as caught,
        ):
            client.search("a")
        assert caught.value.status == 401


class Busy(httpx.BaseTransport):
    """A transport that returns an error status several times, and then answers a search."""

    def __init__(self, times: int, status: int = 503) -> None:
        self.left = times
        self.asked = 0
        self.status = status

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.left:
            self.left -= 1
            problem = {"type": "urn:skytext:problem:overloaded", "detail": "busy"}
            return httpx.Response(self.status, headers={"Retry-After": "0"}, json=problem)
        return httpx.Response(200, json={"hits": [], "table_version": 1, "exact": True})


def test_a_request_to_a_busy_service_is_repeated() -> None:
    busy = Busy(2, 429)
    with Client("http://localhost", transport=busy) as ours:
        assert ours.search("a").table_version == 1
    assert busy.asked == 3
    with (
        Client("http://localhost", transport=Busy(9), retries=1) as impatient,
        pytest.raises(TooBusyError) as caught,
    ):
        impatient.search("a")
    assert caught.value.retry_after_s == 0


def test_requests_that_change_something_are_not_retried() -> None:
    busy = Busy(1)
    with Client("http://localhost", transport=busy) as ours, pytest.raises(TooBusyError):
        ours.rollback()
    assert busy.asked == 1


def test_an_error_page_of_a_proxy_is_reported() -> None:
    proxy = httpx.MockTransport(lambda request: httpx.Response(502, text="<html>Bad Gateway"))
    with (
        Client("http://localhost", transport=proxy) as ours,
        pytest.raises(ServiceError, match="502 no-problem: <html>Bad Gateway"),
    ):
        ours.search("a")


def test_a_replica_that_died_with_a_request_is_not_the_end_of_it(no_waits: list[float]) -> None:
    found = httpx.Response(200, json={"hits": [], "table_version": 1, "exact": True})
    # Serve's proxy returns this answer if the node of the replica is lost.
    answers = [httpx.Response(500, text="Internal Server Error"), found]
    died = httpx.MockTransport(lambda request: answers.pop(0))
    with Client("http://localhost", transport=died) as ours:
        assert ours.search("a").table_version == 1
    failing = Busy(1, 500)
    with Client("http://localhost", transport=failing) as ours, pytest.raises(ServiceError):
        ours.search("a")
    assert failing.asked == 1


class Failing(httpx.BaseTransport):
    """A transport that fails several times without an answer, and then answers."""

    def __init__(self, times: int, error: type[httpx.TransportError] = httpx.ConnectError) -> None:
        self.left = times
        self.asked = 0
        self.error = error

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise self.error("refused")
        return httpx.Response(200, json={"hits": [], "table_version": 1, "exact": True})


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    return waits


def test_an_unreachable_service_is_reported(no_waits: list[float]) -> None:
    client = Failing(9)
    with (
        Client("http://localhost:1", transport=client) as ours,
        pytest.raises(UnreachableError, match=r"cannot reach http://localhost:1 \(refused\)"),
    ):
        ours.search("a")
    assert client.asked == 4
    assert no_waits == [1, 2, 4]


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError])
def test_a_request_is_repeated_while_the_service_restarts(
    no_waits: list[float], error: type[httpx.TransportError]
) -> None:
    with Client("http://localhost", transport=Failing(2, error)) as ours:
        assert ours.search("a").table_version == 1
    changes = Failing(1, error)
    with Client("http://localhost", transport=changes) as ours, pytest.raises(UnreachableError):
        ours.promote()
    assert changes.asked == 1


def test_a_request_that_times_out_is_not_repeated(no_waits: list[float]) -> None:
    slow = Failing(1, httpx.ReadTimeout)
    with Client("http://localhost", transport=slow) as ours, pytest.raises(UnreachableError):
        ours.search("a")
    assert slow.asked == 1


def answering(answer: httpx.Response) -> Client:
    return Client("http://localhost", retries=0, transport=httpx.MockTransport(lambda _: answer))


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Log in, please"),
        httpx.Response(200, json={"a": 1}),
        httpx.Response(200, json=[]),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(204),
    ],
)
def test_a_response_from_a_foreign_service_is_reported(answer: httpx.Response) -> None:
    with answering(answer) as ours:
        calls: list[Any] = [
            lambda: ours.search("a"), lambda: ours.search_batch(["a"]), lambda: ours.image(RIVER),
            lambda: ours.table(), lambda: ours.promote(), lambda: ours.rollback(),
            lambda: ours.search_image(b"x"), lambda: ours.thumbnail(RIVER),
            lambda: ours.read_image(RIVER),
        ]  # fmt: skip
        for ask in calls:
            with pytest.raises(ClientError, match="is not from a skytext service"):
                ask()


@pytest.mark.parametrize(
    "url", ["search.example.org", "http://", "http://[", "http://x:999999", ""]
)
def test_an_invalid_address_is_reported(url: str) -> None:
    with pytest.raises(ClientError, match="is not a valid address"):
        Client(url)


@pytest.mark.parametrize("key", ["skytext_é", "skytext_0\n"])
def test_a_malformed_key_is_reported(key: str) -> None:
    with pytest.raises(ClientError, match="without line breaks") as caught:
        Client("http://localhost", key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("search.example.org", False),
        ("localhost.example.org", False),
    ],
)
def test_a_local_service_is_reached_without_the_proxy_of_the_environment(
    host: str, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    for scheme in ("http", "https"):
        with Client(f"{scheme}://{host}:8000") as ours:
            taken = ours._http._transport_for_url(httpx.URL(f"{scheme}://{host}:8000/v1/search"))
            assert (taken is ours._http._transport) is is_here


class Noting(httpx.BaseTransport):
    """A transport that records the requests, and answers without hits."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        body = {"hits": [], "table_version": 1, "exact": True, "live_version": 1}
        return httpx.Response(200, json=body)

    @property
    def body(self) -> Any:
        return json.loads(self.requests[-1].content)


def test_a_search_sends_only_the_given_arguments(archive: Client) -> None:
    hit = archive.search("a brown river")[0]
    noting = Noting()
    with Client("http://localhost", transport=noting) as ours:
        ours.search("a", version=3, combine="mean")
        assert noting.body == {"k": 10, "text": "a", "version": 3, "combine": "mean"}
        for like in (hit, [hit], hit.image_id, (hit.image_id,)):
            ours.search(like=like)
            assert noting.body == {"k": 10, "like": [RIVER]}
        ours.search(["a", "b"], positive=[hit, "c"], negative=[{"image_id": RIVER}], exact=True)
        assert noting.body == {
            "k": 10,
            "texts": ["a", "b"],
            "positive": [{"image_id": RIVER}, {"text": "c"}],
            "negative": [{"image_id": RIVER}],
            "exact": True,
        }
        for empty in ({}, ""):
            ours.search("a", filter=empty)
            assert noting.body == {"k": 10, "text": "a", "filter": empty}


def test_an_empty_filter_is_refused_and_not_passed_over(archive: Client) -> None:
    for empty in ({}, ""):
        with pytest.raises(ServiceError, match="422"):
            archive.search("a", filter=empty)


def test_the_service_s_own_limits_are_waited_for() -> None:
    noting = Noting()
    with Client("http://localhost", timeout_s=5, transport=noting) as ours:
        ours.search("a")
        ours.search_image(b"x")
        ours.promote()
        ours.rollback()
    waits = [request.extensions["timeout"]["read"] for request in noting.requests]
    assert waits == [5, 75, 75, 75]


@pytest.mark.parametrize(
    ("header", "expected"),
    [("3", 3), ("nan", 1), ("inf", 1), ("-5", 0), ("soon", 1), ("", 1),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2015 07:28:00", 0)],
)  # fmt: skip
def test_retry_after_is_read_in_every_form(header: str, expected: float) -> None:
    busy = httpx.Response(503, headers={"Retry-After": header}, json={"type": "a:overloaded"})
    with answering(busy) as ours, pytest.raises(TooBusyError) as caught:
        ours.search("a")
    assert caught.value.retry_after_s == expected


def test_a_date_to_wait_for_is_seconds_from_now() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=20)
    header = {"Retry-After": format_datetime(later, usegmt=True)}
    busy = httpx.Response(429, headers=header, json={})
    with answering(busy) as ours, pytest.raises(TooBusyError) as caught:
        ours.search("a")
    assert 10 < caught.value.retry_after_s <= 20


def test_the_example_of_the_package_runs(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_process(served) as http:
        through = functools.partial(Client, transport=Through(http))
        monkeypatch.setattr(package, "Client", lambda url, key: through("http://localhost"))
        code = (package.__doc__ or "").partition("\n\n")[2].rpartition("\n\n")[0]
        names: dict[str, Any] = {}
        exec(textwrap.dedent(code), names)
    assert len(names["found"]) == 2


def test_hits_are_gone_through_one_by_one(archive: Client) -> None:
    found = archive.search("a river", k=3)
    assert [hit.image_id for hit in found] == [hit.image_id for hit in found.hits]


def test_pages_follow_the_cursor() -> None:
    pages = {None: "one", "one": "two", "two": None}

    def answer(request: httpx.Request) -> httpx.Response:
        cursor = json.loads(request.content).get("cursor")
        body = {"hits": [], "table_version": 1, "exact": True, "next_cursor": pages[cursor]}
        return httpx.Response(200, json=body)

    with Client("http://localhost", transport=httpx.MockTransport(answer)) as ours:
        cursors = [page.next_cursor for page in ours.pages("a", k=5)]
    assert cursors == ["one", "two", None]


def test_the_asynchronous_client_does_the_same(served: Path) -> None:
    async def go() -> list[Any]:
        application = Application(served, make_config(served))
        transport = httpx.ASGITransport(application.asgi, client=("127.0.0.1", 1))
        async with AsyncClient("http://localhost", transport=transport) as ours:
            found = await ours.search("a brown river", k=2)
            return [
                found[0].image_id,
                [page.table_version async for page in ours.pages("a")],
                (await ours.table()).num_ok,
                (await ours.image(found[0])).image_id,
                await ours.read_image(found[0]),
                len(await ours.search_batch(["a", "b"])),
            ]

    found, pages, num_ok, row, data, num_answers = asyncio.run(go())
    assert found == row == RIVER
    assert len(pages) == 1
    assert (num_ok, data, num_answers) == (4, encoded("brown"), 2)


def test_both_clients_offer_the_same() -> None:
    def names(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert names(Client) == names(AsyncClient)
    assert set(package.__all__) == set(skytext.client.__all__) == {
        "AsyncClient", "BatchAnswers", "Client", "ClientError", "Found", "FoundImage", "Hit",
        "ServiceError", "TableInfo", "TooBusyError", "UnreachableError",
    }  # fmt: skip


def test_a_search_takes_what_its_body_has() -> None:
    assert Search.__annotations__.keys() | {"text", "texts"} == SearchBody.model_fields.keys()


def test_an_argument_that_no_search_has_is_refused() -> None:
    with (
        pytest.raises(TypeError, match="unknown argument 'colour'"),
        Client("https://search.example.org") as ours,
    ):
        ours.search("a", colour="red")  # type: ignore[call-arg]
