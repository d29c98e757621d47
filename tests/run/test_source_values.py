"""Test that metadata of a source can be used in a search filter.

The source is a Parquet file with columns of many types.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytext.filters.cql2_text import parse_filter
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import last_runs
from tests.archives import jpeg
from tests.pixels.image_corpus import tiff
from tests.run.jobs import caption, check_one_row_an_image, open_table, ray, with_ray


@ray
@with_ray
def test_source_values_can_be_filtered_and_unusable_ones_are_reported(
    tmp_path: Path,
) -> None:
    array = np.full((32, 48, 4), 9, np.uint8)
    deep = tiff(array, photometric="minisblack", planarconfig="contig")
    columns = {
        "image": [jpeg(1), jpeg(2), deep],
        "gsd": pa.array([Decimal("0.30"), Decimal("10"), None]),
        "cloud": pa.array([Decimal("2.50"), Decimal("80"), None]),
        "clear": pa.array([1, 0, None], pa.uint8()),
        "bbox": [[-190.0, -20.0, -170.0, -10.0], [0.0, 0.0, 1.0, 99.0], None],
        "datetime": ["2020-06-01", "soon", None],
    }
    (tmp_path / "archive").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "archive" / "a.parquet")
    summary, _ = caption(tmp_path / "archive", tmp_path / "table")
    check_one_row_an_image(tmp_path / "table", summary)
    assert (summary.num_ok, summary.num_many_bands) == (3, 1)
    assert summary.unusable == {"bbox": 1, "datetime": 1}
    uri = f"file://{tmp_path}/archive/a.parquet#row-1"
    assert summary.unusable_examples == {
        "bbox": f"[0.0, 0.0, 1.0, 99.0] of {uri}",
        "datetime": f'"soon" of {uri}',
    }
    counts = last_runs(TableLocation.parse(str(tmp_path / "table")), 1)[0].counts
    assert (counts["unusable"], counts["num_many_bands"]) == (summary.unusable, 1)
    images = open_table(tmp_path / "table").dataset
    for text, members in {
        "gsd <= 0.3": ["row-0"],
        "gsd >= 10": ["row-1"],
        "metadata.cloud < 10": ["row-0"],
        "metadata.cloud = 80": ["row-1"],
        "metadata.clear = true": ["row-0"],
        "metadata.clear = false": ["row-1"],
        "datetime = '2020-06-01'": ["row-0"],
        "S_INTERSECTS(geometry, BBOX(175, -15, 176, -14))": ["row-0"],
    }.items():
        found = images.to_table(columns=["member"], filter=parse_filter(text).sql())
        assert found.column("member").to_pylist() == members, text
    chosen, _ = caption(tmp_path / "archive", tmp_path / "other", images__bands=[5, 3, 2])
    assert (chosen.num_ok, chosen.num_many_bands) == (2, 0)
    assert chosen.failures == {"decode/unsupported_image": 1}
