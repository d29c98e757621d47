"""Test the webhook and the command that are notified about the end of a run."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from skytext.config.settings import load_config
from skytext.errors import ConfigError
from skytext.run.reindex import notify as module
from skytext.run.reindex.notify import SECRET, NotifyError, notify
from skytext.run.reindex.report.facts import RunFacts
from tests.run.reindex.report.test_write_report import facts_of

ADDRESS = "s3://b/reports/x.html"


@dataclass
class Receiver:
    """A web server that answers with these statuses in order, and then repeats the last status."""

    statuses: list[int]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def receiver(*statuses: int) -> Iterator[Receiver]:
    found = Receiver(list(statuses))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append((dict(self.headers), body))
            status = found.statuses.pop(0) if len(found.statuses) > 1 else found.statuses[0]
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/secret-path"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFacts:
    monkeypatch.setattr(module, "wait_random_exponential", lambda **_: lambda _: 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return facts_of(tmp_path)


def asked(facts: RunFacts, **settings: Any) -> RunFacts:
    given = {f"reindex.{name}": value for name, value in settings.items()}
    return replace(facts, config=load_config(None, given))


def test_a_webhook_is_signed_and_tried_again(
    facts: RunFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "of both sides")
    with receiver(503, 429, 200) as there:
        notify(asked(facts, webhook=there.url), ADDRESS)
    assert len(there.got) == 3
    assert len({body for _, body in there.got}) == 1
    headers, body = there.got[-1]
    signed = headers["X-Skytext-Timestamp"].encode() + b"." + body
    expected = hmac.new(b"of both sides", signed, hashlib.sha256).hexdigest()
    assert headers["X-Skytext-Signature"] == f"sha256={expected}"
    notification = json.loads(body)
    assert (notification["event"], notification["num_described"]) == ("reindex.failed", 4)
    assert notification["report"] == ADDRESS
    (match,) = notification["matches"]
    assert (match["number"], match["counts"][0]["num_matches"]) == (7, 1)
    assert match["features"][0]["properties"]["member"] == "0002.jpg"
    assert len(notification["delivery"]) == 32


def test_without_a_secret_nothing_is_signed_and_a_refusal_is_final(
    facts: RunFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SECRET, raising=False)
    with receiver(404) as there:
        with pytest.raises(NotifyError, match=r"webhook at 127\.0\.0\.1 .* status 404") as caught:
            notify(asked(facts, webhook=there.url), ADDRESS)
        assert "secret-path" not in str(caught.value)
    assert len(there.got) == 1
    assert "X-Skytext-Signature" not in there.got[0][0]


def test_the_time_is_limited(facts: RunFacts) -> None:
    with receiver(500) as there:
        with pytest.raises(
            NotifyError, match=r"not be notified within 0\.3 s \(\d+ attempts\): HTTP status 500"
        ):
            notify(asked(facts, webhook=there.url, notify_timeout_s=0.3), ADDRESS)
        assert len(there.got) > 1
    with pytest.raises(NotifyError, match=r"not be notified within 0\.1 s"):
        notify(asked(facts, webhook=there.url, notify_timeout_s=0.1), ADDRESS)


def test_a_command_gets_the_same_on_its_stdin(facts: RunFacts, tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    # The script fails the first time.
    script.write_text(
        "import pathlib, sys\n"
        "there = pathlib.Path(sys.argv[1])\n"
        "text = (there.read_text() if there.exists() else '') + sys.stdin.read() + '\\n'\n"
        "there.write_text(text)\n"
        "sys.exit(3 if text.count('\\n') == 1 else 0)\n"
    )
    out = tmp_path / "a folder" / "notification"
    out.parent.mkdir()
    notify(asked(facts, command=f"{sys.executable} {script} '{out}'"), ADDRESS)
    first, second = map(json.loads, out.read_text().splitlines())
    assert first == second
    assert first["problem"] == facts.problem


def test_a_failing_command_is_reported_and_the_webhook_is_still_called(facts: RunFacts) -> None:
    with receiver(200) as there:
        both = asked(facts, webhook=there.url, command="false", notify_timeout_s=0.2)
        with pytest.raises(NotifyError, match=r"the command false .* status 1"):
            notify(both, ADDRESS)
    assert len(there.got) == 1
    with pytest.raises(NotifyError, match="cannot be run: No such file"):
        notify(asked(facts, command="no-such-program --x"), ADDRESS)
    with pytest.raises(NotifyError, match="did not end in time"):
        notify(asked(facts, command="sleep 9", notify_timeout_s=0.5), ADDRESS)
    notify(asked(facts), ADDRESS)


@pytest.mark.parametrize("url", ["http://hooks.example:x/secret", "http://[::1/secret"])
def test_an_invalid_webhook_address_is_reported(facts: RunFacts, url: str) -> None:
    with pytest.raises(NotifyError, match="has an invalid address") as caught:
        notify(asked(facts, webhook=url), ADDRESS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"webhook": "ftp://x"}, {"command": " "}, {"command": "'open"}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=rf"reindex\.{next(iter(wrong))}"):
        load_config(None, {f"reindex.{name}": value for name, value in wrong.items()})
