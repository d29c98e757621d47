"""Generate captions that are as long as captions in RSRT. Each variant has about 120 tokens.

The cost of reading a column depends on the length of the texts, and on how often a text is
repeated. Therefore the generated texts are as long as the published captions, and each text is a
new combination of clauses. The texts have no meaning.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Number of clauses in each part of a variant. A clause has about ten words.
_CLAUSES = {"one_sentence": 2, "feature": 3, "caption": 5}
_NUM_CLAUSES = 20_000
_COUNTS = ("a", "one", "two", "three", "several", "a few", "many", "a row of", "a cluster of")
_LOOKS = (
    *("large", "small", "long", "narrow", "round", "square", "dense", "sparse", "bright", "dark"),
    *("white", "grey", "green", "brown", "red", "blue", "dry", "wet", "empty", "crowded"),
)
_THINGS = (
    *("buildings", "roofs", "roads", "cars", "trees", "ships", "aeroplanes", "tanks", "fields"),
    *("bridges", "courts", "pools", "containers", "dunes", "rocks", "waves", "gardens", "paths"),
    *("runways", "terminals", "rails", "trains", "towers", "greenhouses", "ponds", "stands"),
)
_RELATIONS = (
    *("beside", "along", "north of", "south of", "east of", "west of", "between", "around"),
    *("parallel to", "across from", "opposite", "enclosed by"),
)
_PLACES = (
    *("the harbour", "the river", "the airport", "a stadium", "the beach", "a playground"),
    *("the forest", "a car park", "the farmland", "the desert", "a school", "the railway station"),
    *("an industrial area", "a residential area", "the motorway", "a golf course"),
)
_WHERE = (
    *("in the upper left", "in the lower right", "in the middle", "at the northern edge"),
    *("at the southern edge", "in the east of the image", "in the west of the image"),
)


def draw_variants(count: int, rng: np.random.Generator) -> dict[str, pa.StringArray]:
    """Return ``count`` texts for each field of a variant."""
    clauses = _clauses()
    return {
        part: pc.binary_join_element_wise(
            *(clauses.take(pa.array(rng.integers(0, len(clauses), count))) for _ in range(number)),
            "; ",
        )
        for part, number in _CLAUSES.items()
    }


@cache
def _clauses() -> pa.StringArray:
    rng = np.random.default_rng(3)
    lists = (_COUNTS, _LOOKS, _THINGS, _RELATIONS, _PLACES, _WHERE)
    chosen = [rng.integers(0, len(words), _NUM_CLAUSES) for words in lists]
    count, look, thing, relation, place, where = (
        np.array(words, object)[numbers] for words, numbers in zip(lists, chosen, strict=True)
    )
    return pa.array(count + " " + look + " " + thing + " " + relation + " " + place + " " + where)
