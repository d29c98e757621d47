from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from skytext.errors import CallError, TableError
from skytext.service.access.api_keys import Keys, KeyStore, Right, digest
from skytext.table.location import TableLocation
from tests.service.app import client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ask(http: Any, headers: Any = None) -> Any:
    return http.post("/v1/search", json={"text": "a river"}, headers=headers)


def test_keys_are_kept_as_hashes(own: TableLocation) -> None:
    store = KeyStore(own)
    key = store.add("team a", Right.SEARCH)
    kept = [path.read_text() for path in Path(own.uri, "state", "keys").iterdir()]
    assert len(kept) == 1
    assert key.split("_", 2)[2] not in kept[0]
    assert json.loads(kept[0])["digest"] == digest(key)
    assert [(k.name, k.right) for k in store.list()] == [("team a", "search")]


def test_a_key_is_found_whole_or_not_at_all(own: TableLocation) -> None:
    store = KeyStore(own)
    key = store.add("a", Right.SEARCH)
    keys = store.load()
    found = keys.find(key)
    assert found is not None
    assert found.name == "a"
    last = "A" if key[-1] != "A" else "B"
    for wrong in (key[:-1], key[:-1] + last, key + "A", key.upper(), "", "skytext__", "\0" * 99,
                  key.replace("skytext_", "skytext_0"), "é" * 60, "x" * 10**6):  # fmt: skip
        assert keys.find(wrong) is None
    assert Keys(()).find(key) is None


def test_names_of_keys(own: TableLocation) -> None:
    store = KeyStore(own)
    store.add("a", Right.SEARCH)
    for wrong in ("a", "", "../x", "a\nb", "x" * 65):
        with pytest.raises(CallError):
            store.add(wrong, Right.SEARCH)
    with pytest.raises(CallError, match="no key named 'b'"):
        store.revoke("b")
    with pytest.raises(TableError):
        KeyStore(TableLocation.parse(f"{own.uri}-missing")).add("a", Right.SEARCH)


def test_only_who_has_a_key_may_search(own: TableLocation) -> None:
    key = KeyStore(own).add("a", Right.SEARCH)
    with client(own.uri, access__require_keys=True) as http:
        without = ask(http)
        assert without.status_code == 401
        assert without.headers["www-authenticate"].startswith("Bearer")
        assert without.headers["content-type"] == "application/problem+json"
        assert ask(http, headers=bearer("skytext_000000000000_" + "x" * 43)).status_code == 401
        assert ask(http, headers=bearer(key)).status_code == 200
        assert ask(http, headers={"X-API-Key": key}).status_code == 200
        assert ask(http, headers={"Authorization": f"Basic {key}"}).status_code == 401
        assert http.get(f"/v1/search?text=a&key={key}").status_code == 401
        for path in ("/v1/table", f"/v1/images/{'f' * 32}/bytes", "/metrics", "/v1/admin/promote"):
            assert http.get(path).status_code == 401, path
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert http.get(path).status_code == 200, path


def test_a_search_key_cannot_administer(own: TableLocation) -> None:
    store = KeyStore(own)
    search, admin = store.add("s", Right.SEARCH), store.add("a", Right.ADMIN)
    with client(own.uri, access__require_keys=True) as http:
        assert http.get("/metrics", headers=bearer(search)).status_code == 403
        refused = http.post("/v1/admin/promote", json={}, headers=bearer(search))
        assert refused.status_code == 403
        assert http.get("/metrics", headers=bearer(admin)).status_code == 200
        assert ask(http, headers=bearer(admin)).status_code == 200
        done = http.post("/v1/admin/promote", json={}, headers=bearer(admin))
        assert done.status_code == 200
        answer = ask(http, headers=bearer(search)).json()
        assert answer["table_version"] == done.json()["live_version"]


def test_a_revoked_key_is_refused(own: TableLocation) -> None:
    store = KeyStore(own)
    key, other = store.add("a", Right.SEARCH), store.add("b", Right.SEARCH)
    with client(own.uri, access__require_keys=True, access__refresh_s=0.02) as http:
        assert ask(http, headers=bearer(key)).status_code == 200
        store.revoke("a")
        for _ in range(500):
            if ask(http, headers=bearer(key)).status_code == 401:
                break
            http.get("/readyz")
        assert ask(http, headers=bearer(key)).status_code in (401, 429)
        assert ask(http, headers={"X-API-Key": other}).status_code in (200, 429)


def test_the_first_key_protects_a_running_service(own: TableLocation) -> None:
    with client(own.uri, access__require_keys="auto", access__refresh_s=0.02) as http:
        assert ask(http).status_code == 200
        key = KeyStore(own).add("a", Right.SEARCH)
        for _ in range(500):
            if ask(http).status_code == 401:
                break
            http.get("/readyz")
        assert ask(http).status_code == 401
        assert http.post("/v1/admin/promote", json={}).status_code == 401
        assert ask(http, headers=bearer(key)).status_code == 200
        # The service does not become open again.
        KeyStore(own).revoke("a")
        for _ in range(500):
            if ask(http, headers=bearer(key)).status_code == 401:
                break
            http.get("/readyz")
        assert ask(http).status_code in (401, 429)


def test_guessing_keys_is_cut_short(own: TableLocation) -> None:
    key = KeyStore(own).add("a", Right.SEARCH)
    with client(own.uri, access__require_keys=True, access__failure_rate="5/hour") as http:
        guesses = [ask(http, headers=bearer(f"guess-{i}")) for i in range(8)]
        assert [guess.status_code for guess in guesses] == [401] * 5 + [429] * 3
        assert int(guesses[-1].headers["retry-after"]) > 1
        # The correct key is refused too. Otherwise the answer would show which guess is correct.
        assert ask(http, headers=bearer(key)).status_code == 429


def test_each_key_has_its_own_rate(own: TableLocation) -> None:
    store = KeyStore(own)
    one, two = store.add("one", Right.SEARCH), store.add("two", Right.SEARCH)
    with client(own.uri, access__require_keys=True, access__key_rate="3/hour") as http:
        first = [ask(http, headers=bearer(one)).status_code for _ in range(5)]
        assert first == [200, 200, 200, 429, 429]
        refused = ask(http, headers=bearer(one))
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["type"] == "urn:skytext:problem:too-many-requests"
        assert ask(http, headers=bearer(two)).status_code == 200


def test_without_keys_only_this_machine_is_answered(served: Path) -> None:
    with client(served) as http:
        assert ask(http).status_code == 200
        http._transport.client = ("192.0.2.7", 1234)
        far = ask(http)
        assert far.status_code == 403
        assert "on the same machine" in far.json()["detail"]
        # A header that claims a local address does not change the answer.
        assert ask(http, headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.org", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example.org"},
        {"Origin": "http://localhost"},
        {"Origin": "http://[::1"},
        {"Origin": "null"},
        {"Origin": ""},
    ],
)
def test_without_keys_a_foreign_page_changes_nothing(
    own: TableLocation, headers: dict[str, str]
) -> None:
    """Test requests that a browser sends without a preflight request. They have no body, or their
    body has the type text/plain."""
    ours = {"Host": "localhost:8000"}
    with client(own.uri) as http:
        for path in ("/v1/admin/rollback", "/v1/admin/promote", "/v1/search"):
            refused = http.post(path, headers={**ours, **headers}, content=b"{}")
            assert refused.status_code == 403
            assert refused.json()["type"] == "urn:skytext:problem:forbidden"
        # A GET request is harmless, because the browser does not give the answer to the page.
        assert http.get("/v1/table", headers={**ours, **headers}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl sends none of these headers.
        {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://maps.example.org", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_without_keys_our_page_and_those_allowed_may_search(
    served: Path, headers: dict[str, str]
) -> None:
    with client(served, access__cors_origins=["https://maps.example.org"]) as http:
        assert ask(http, {"Host": "localhost:8000", **headers}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example.org", "localhost.evil.org", "", "[::2]", "a:b:c"])
def test_a_foreign_name_is_not_answered(served: Path, host: str) -> None:
    """Test requests of a foreign page whose host name resolves to this machine."""
    with client(served) as http:
        assert ask(http, headers={"Host": host}).status_code == 421
        assert http.get("/", headers={"Host": host}).status_code == 421
        for ours in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
            assert ask(http, headers={"Host": ours}).status_code == 200


def test_the_address_from_a_trusted_proxy_is_used(own: TableLocation) -> None:
    KeyStore(own).add("a", Right.SEARCH)
    settings = {
        "access__require_keys": True,
        "access__failure_rate": "2/hour",
        "access__trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"],
    }
    with client(own.uri, **settings) as http:

        def guess(forwarded: str) -> int:
            headers = {**bearer("wrong"), "X-Forwarded-For": forwarded}
            return int(ask(http, headers=headers).status_code)

        assert [guess("192.0.2.1, 10.0.0.9") for _ in range(3)] == [401, 401, 429]
        assert guess("192.0.2.2") == 401
        # Addresses that the client itself added are ignored.
        assert guess("203.0.113.5, 192.0.2.1") == 429


def test_the_server_does_not_change_the_client_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Test that the HTTP server does not use the header X-Forwarded-For. By default, the HTTP
    server of Serve uses this header if the peer is on the same machine (see serving.md)."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "")
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"])

    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    headers = [(b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"https")]
    scope: Any = {"type": "http", "client": ("127.0.0.1", 5), "headers": headers, "scheme": "http"}
    asyncio.run(config.loaded_app(scope, None, None))  # type: ignore[arg-type]
    assert seen == [("127.0.0.1", 5)]


def test_foreign_pages_may_not_read_answers_unless_allowed(served: Path) -> None:
    origin = "https://maps.example.org"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    with client(served) as http:
        assert "access-control-allow-origin" not in ask(http, headers={"Origin": origin}).headers
        closed = http.options("/v1/search", headers=preflight)
        assert "access-control-allow-origin" not in closed.headers
    with client(served, access__cors_origins=[origin]) as http:
        allowed = ask(http, headers={"Origin": origin})
        assert allowed.headers["access-control-allow-origin"] == origin
        assert http.options("/v1/search", headers=preflight).status_code == 200
        asking = {**preflight, "Access-Control-Request-Method": "GET"}
        asking["Access-Control-Request-Headers"] = "if-none-match, x-api-key"
        assert http.options("/v1/images/x/bytes", headers=asking).status_code == 200
        for wrong in (
            {"Origin": "https://evil.example.org"},
            {"Access-Control-Request-Method": "PUT"},
        ):
            refused = http.options("/v1/search", headers={**preflight, **wrong})
            assert refused.status_code == 400
            assert refused.headers["content-type"] == "application/problem+json"
            assert "Origin" in refused.headers["vary"]
            assert refused.json()["type"] == "urn:skytext:problem:cors"
        other = ask(http, headers={"Origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (".DS_Store", b"\0\0\0\1Bud1\xff"),
        ("odd.json", b"{}"),
        ("cut.json", b'{"key_id": "0'),
        ("types.json", b'{"key_id":"0","name":"x","right":"search","digest":7,"created_at":""}'),
    ],
)
def test_something_else_among_the_keys_is_passed_over(
    own: TableLocation, caplog: pytest.LogCaptureFixture, name: str, data: bytes
) -> None:
    store = KeyStore(own)
    key, other = store.add("a", Right.SEARCH), store.add("b", Right.SEARCH)
    Path(own.uri, "state", "keys", name).write_bytes(data)
    with caplog.at_level(logging.WARNING, "skytext.service.access.api_keys"):
        assert [stored.name for stored in store.list()] == ["a", "b"]
        store.revoke("a")
        keys = store.load()
    assert keys.find(key) is None
    assert keys.find(other) is not None
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"{own.uri}/state/keys/{name} is not a valid API key file"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1", "/v1/", "/v1/table/", "//v1/table", "/v1//table", "/V1/table", "/v1/table%00",
        "/v1/../v1/table", "/page/../v1/table", "/page/%2e%2e/v1/table", "/page/..%2fapi.py",
        "/metrics/", "//metrics", "/healthz/../metrics", "/docs", "/redoc", "/missing",
        "/v1/admin", "/v1/admin/promote/", "/openapi.json/", "/.git/config", "/-/routes",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_bypasses_the_key(own: TableLocation, path: str) -> None:
    with client(own.uri, access__require_keys=True) as http:
        for headers in ({}, {"X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"}):
            # Use a complete URL, because `//metrics` alone would name a host.
            url = f"http://localhost{path}"
            answer = http.get(url, headers=headers, follow_redirects=True)
            assert answer.status_code in (401, 404), answer.text
            assert "num_ok" not in answer.text
            assert "skytext_requests_total" not in answer.text


@pytest.mark.parametrize("path", ["/metrics%0a", "/metrics%0d%0a", "/v1/table%00", "/healthz%0a"])
def test_a_path_with_control_characters_is_not_found(own: TableLocation, path: str) -> None:
    """Test paths that end with a control character. In a regular expression, `$` also matches
    before a newline. No route may match such a path. Therefore the answer is the same with and
    without a key."""
    key = KeyStore(own).add("a", Right.SEARCH)
    with client(own.uri, access__require_keys=True) as http:
        for headers in ({}, bearer(key)):
            answer = http.get(path, headers=headers)
            assert answer.status_code == 404
            assert answer.json()["type"] == "urn:skytext:problem:not-found"
            assert "skytext_requests_total" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "GET"},
        {"Authorization": "Bearer " + "a" * 60_000},
        {"Authorization": "Bearer skytext_000000000000_" + "é" * 43},
        {"Authorization": "Bearer"},
        {"Authorization": "\tBearer  a b c"},
        {"X-API-Key": "' OR 1=1 --"},
        {"Cookie": "key=1; admin=true"},
        {"Forwarded": "for=127.0.0.1;proto=https", "X-Real-IP": "127.0.0.1"},
        {"Content-Type": "application/json; charset=" + "x" * 5000},
        {"traceparent": "00-" + "z" * 3000},
        {"Accept": "*/*," * 5000},
    ],
)
def test_headers_open_nothing_and_break_nothing(
    own: TableLocation, headers: dict[str, str]
) -> None:
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    with client(own.uri, access__require_keys=True) as http:
        answer = http.post("/v1/search", json={"text": "a river"}, headers=sent)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_key_is_required_under_a_prefix_too(own: TableLocation) -> None:
    """Test an application under the prefix ``/api``, as with `route_prefix` in a deployed file."""
    from starlette.testclient import TestClient

    from tests.service.app import Application, make_config

    config = make_config(own.uri, access__require_keys=True)
    application = Application(own.uri, config)
    with TestClient(
        application.asgi, base_url="http://localhost", root_path="/api", client=("127.0.0.1", 1)
    ) as http:
        for path in ("/api/v1/table", "/v1/table", "/api/metrics"):
            assert http.get(path).status_code == 401
        assert http.get("/api/healthz").status_code == 200
