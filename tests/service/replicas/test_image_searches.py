"""Test searches by image vectors through the service, and a service without image vectors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from skytext.config.settings import Config, load_config
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from skytext_client import Client, ServiceError
from tests.cli.tables import make_described_table
from tests.client.test_client import Through
from tests.search.test_image_modes import SHOWN, make_searched
from tests.service.app import LOCAL, Application, client
from tests.table.rows import committer, good_row, stage

OTHER_PIXELS = {"images.max_side_px": 77}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served-images") / "table"
    make_searched(folder)
    return folder


@pytest.fixture(scope="module")
def http(table: Path) -> Iterator[Any]:
    with client(table) as opened:
        yield opened


def names(hits: list[Any]) -> list[str]:
    return [hit["uri"].rpartition("#")[2] for hit in hits]


def search(http: Any, **body: Any) -> Any:
    answer = http.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_images_are_searched_page_by_page(http: Any) -> None:
    about = http.get("/v1/table").json()
    assert about["modes"] == ["dense", "image", "image+dense"]
    assert (about["image_model"], about["no_image_search"]) == ("fake", None)
    assert "image_fingerprint" not in about
    assert http.get("/readyz").json()["no_image_search"] is None
    first = search(http, text="red", mode="image", k=2)
    assert names(first["hits"]) == ["a.jpg", "b.jpg"]
    assert first["hits"][0]["image_cosine"] == first["hits"][0]["score"]
    second = search(http, text="red", mode="image", k=2, cursor=first["next_cursor"])
    assert sorted(names(second["hits"])) == ["c.jpg", "d.jpg"]
    assert second["next_cursor"] is None
    both = search(http, texts=["red", "blue"], mode="image+dense")
    assert sorted(names(both["hits"])) == sorted(SHOWN)
    filtered = search(http, text="red", mode="image+dense", filter="gsd < 2")
    assert names(filtered["hits"]) == ["a.jpg"]
    by_link = http.get("/v1/search", params={"text": "red", "mode": "image+dense", "k": 1})
    assert names(by_link.json()["hits"]) == ["a.jpg"]
    bodies = [{"text": "red", "mode": "image"}, {"text": "the sea"}]
    answers = http.post("/v1/search/batch", json={"searches": bodies}).json()["answers"]
    assert [answer["mode"] for answer in answers] == ["image", "dense"]


def test_scores_of_hits_are_cosines_and_may_have_a_minimum(http: Any) -> None:
    both = search(http, text="red", mode="image+dense")["hits"]
    assert [hit["score"] for hit in both] == [hit["image_cosine"] for hit in both]
    assert None in [hit["score"] for hit in both]
    ranked = [hit["rank_score"] for hit in both]
    assert ranked == sorted(ranked, reverse=True)
    some = search(http, text="red", mode="image+dense", min_score=0.5)
    assert sorted(names(some["hits"])) == ["a.jpg", "b.jpg"]
    link = {"text": "red", "mode": "image", "min_score": "0.5"}
    assert names(http.get("/v1/search", params=link).json()["hits"]) == ["a.jpg", "b.jpg"]
    refused = http.post("/v1/search", json={"text": "red", "min_score": 2})
    assert refused.status_code == 422
    with Client("http://localhost", transport=Through(http)) as ours:
        assert len(ours.search("red", mode="image", min_score=0.5)) == 2
        # A threshold of 0 is valid.
        assert len(ours.search("red", mode="image", min_score=0)) < 4


def test_images_are_searched_like_one_and_by_examples(http: Any) -> None:
    like = str(good_row("a.jpg")["image_id"])
    assert names(search(http, like=[like], mode="image")["hits"])[0] == "b.jpg"
    moved = search(http, text="red", positive=[{"text": "blue"}], mode="image", k=4)
    assert len(moved["hits"]) == 4
    without = str(good_row("e.jpg")["image_id"])
    refused = http.post("/v1/search", json={"like": [without], "mode": "image"})
    assert refused.status_code == 422
    assert "has no image vector" in refused.json()["detail"]


def test_the_client_searches_images(http: Any) -> None:
    with Client("http://localhost", transport=Through(http)) as ours:
        assert "image" in ours.table().modes
        found = list(ours.pages("red", mode="image", k=3))
        assert [len(page) for page in found] == [3, 1]
        assert found[0][0].image_cosine == found[0][0].score


def other_pixels(table: Path) -> Config:
    return load_config(None, {**LOCAL, **OTHER_PIXELS, "service.archive_roots": []})


def test_a_service_works_without_the_image_model(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        application = Application(table, other_pixels(table))
    (logged,) = [r for r in caplog.records if "are not available" in r.message]
    with TestClient(application.asgi, base_url="http://localhost", client=("127.0.0.1", 1)) as http:
        about = http.get("/v1/table").json()
        assert about["modes"] == ["dense"]
        assert "images.max_side_px or images.bands has changed" in about["no_image_search"]
        assert str(table) not in about["no_image_search"]
        assert logged.error == about["no_image_search"]  # type: ignore[attr-defined]
        assert http.get("/readyz").json()["no_image_search"] == about["no_image_search"]
        assert names(search(http, text="the sea")["hits"])[0] == "d.jpg"
        for mode in ("image", "image+dense"):
            refused = http.post("/v1/search", json={"text": "red", "mode": mode})
            assert refused.status_code == 501
            assert refused.json()["type"].endswith(":no-image-search")
            assert "images.max_side_px or images.bands has changed" in refused.json()["detail"]
        with (
            Client("http://localhost", transport=Through(http)) as ours,
            pytest.raises(ServiceError, match="this service cannot search the image vectors"),
        ):
            ours.search("red", mode="image")


def test_a_version_whose_image_vectors_came_after_the_start_is_searched(tmp_path: Path) -> None:
    make_searched(tmp_path / "table")
    where = TableLocation.parse(str(tmp_path / "table"))
    latest = ImagesTable.open(where).version
    promote(where, 1)
    with client(tmp_path / "table") as http:
        assert http.get("/v1/table").json()["image_model"] is None
        refused = http.post("/v1/search", json={"text": "red", "mode": "image"})
        assert (refused.status_code, "has no image vectors" in refused.text) == (501, True)
        promote(where, latest)
        assert http.application.searches.versions.refresh()
        about = http.get("/v1/table").json()
        assert (about["modes"], about["image_model"]) == (["dense"], "fake")
        assert "not loaded yet" in about["no_image_search"]
        http.application.embedding.models.refresh()
        assert http.get("/v1/table").json()["no_image_search"] is None
        found = http.post("/v1/search", json={"text": "red", "mode": "image"})
        assert found.status_code == 200, found.text
        assert found.json()["hits"]


def test_rows_may_be_copied(table: Path, tmp_path: Path) -> None:
    with client(table, row_copy_dir=str(tmp_path)) as http:
        before = search(http, text="red", mode="image+dense")
        live = http.application.searches.versions.live
        assert live.copy_rows(tmp_path)
        assert search(http, text="red", mode="image+dense") == before


def test_rows_committed_later_are_served_too(tmp_path: Path) -> None:
    made = make_searched(tmp_path / "table")
    with client(tmp_path / "table") as http:
        writer = committer(made.location, made.text_column)
        writer.commit([stage(made.location, [good_row("new.jpg")])])
        promote(made.location, None)
        assert http.application.searches.versions.live.versions == (made.version,)
        assert http.application.searches.versions.refresh()
        assert len(search(http, text="red", mode="image")["hits"]) == 4
        assert len(search(http, text="red", mode="image+dense")["hits"]) == 6


def test_images_of_several_tables_are_searched_where_all_have_vectors(
    table: Path, tmp_path: Path
) -> None:
    """Test that the image modes need the same model in all tables. Otherwise the service gives the
    reason."""
    make_searched(tmp_path / "more")
    with client(table, more=[tmp_path / "more"]) as http:
        about = http.get("/v1/table").json()
        assert about["modes"] == ["dense", "image", "image+dense"]
        found = search(http, text="red", mode="image", k=4)
        assert names(found["hits"]) == ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
        assert [hit["table"] for hit in found["hits"]] == ["table", "more"] * 2
    make_described_table(tmp_path / "without")
    with client(table, more=[tmp_path / "without"]) as http:
        about = http.get("/v1/table").json()
        assert about["modes"] == ["dense"]
        why = "not all tables have image vectors of the same model"
        assert about["no_image_search"] == http.get("/readyz").json()["no_image_search"] == why
        assert len(search(http, text="red", k=20)["hits"]) == 9
        refused = http.post("/v1/search", json={"text": "red", "mode": "image"})
        assert (refused.status_code, refused.json()["type"]) == (
            501, "urn:skytext:problem:no-image-search",
        )  # fmt: skip
        assert why in refused.json()["detail"]
