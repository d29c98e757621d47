"""Unrelated queries: queries about subjects that no aerial image shows.

No image fits an unrelated query. But for every query, one image has the best score. If this score
is not higher than the best scores of unrelated queries, the image can be a result of chance. The
best scores of unrelated queries depend on the model and on the table. So they are measured for each
table (`skytext.table.indexes.chance_score`).

Shuffled words from the table's descriptions are not suitable as unrelated queries, because they
still name what the images show. This was measured with all-MiniLM-L6-v2 and the data sets RSITMD
and RSICD. For shuffled words, 95 % of the best scores are below 0.76 (RSITMD) or 0.80 (RSICD).
These limits are too high: more than 10 % of the real captions have a lower best score. For the
queries in this module, 95 % of the best scores are below 0.33 (RSITMD) or 0.38 (RSICD). All real
captions have a higher best score. docs/background/ranking.md contains the measurements.

The queries are about music, law, illness, language, feelings, cooking, money, software, history
and the rules of sports. An image from above does not show these subjects. Real queries are phrases
or questions. So half of these queries are phrases, and the other half are questions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from skytext.config.settings import Config
from skytext.errors import SkytextError
from skytext.models.factory import make_table_embedder, make_table_image_embedder
from skytext.search.query_vectors import QueryEmbedder
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import ChanceScore, read_chance_score
from skytext.table.indexes.chance_score import measure_chance_scores
from skytext.table.vector_columns import VectorKind

UNRELATED_QUESTIONS = (
    "a concerto for violin and orchestra",
    "how to bake bread with sourdough",
    "symptoms of a cold in small children",
    "the rights of a tenant after notice",
    "who wrote the first detective novel",
    "a recipe for tomato soup",
    "what is the difference between who and whom",
    "interest rates of a savings account",
    "a Python function that sorts a list",
    "why do we dream at night",
    "the rules of offside in football",
    "a poem about losing a friend",
    "how to tie a bow tie",
    "side effects of antibiotics",
    "an actor who won three awards",
    "how long should I boil an egg",
    "the king's speech to the parliament",
    "a divorce lawyer's fees",
    "how do vaccines work",
    "a joke about a doctor and a patient",
    "learning to play the guitar",
    "the meaning of the word irony",
    "a love letter from a soldier",
    "tax deduction for working at home",
    "how to reset a forgotten password",
    "the plot of a comedy by Shakespeare",
    "a sore throat and a fever",
    "the best way to apologise to a colleague",
    "which wine goes with cheese",
    "a theorem about prime numbers",
    "fear of speaking in public",
    "how to knit a woollen scarf",
    "an interview for a job as a nurse",
    "the chords of a blues song",
    "what causes inflation",
    "a portrait of a smiling woman",
    "the history of the Latin alphabet",
    "how to train a puppy not to bite",
    "a chess opening for beginners",
    "the philosophy of Immanuel Kant",
    "a scratched phone screen",
    "allergic to nuts and milk",
    "how many calories are in a banana",
    "a choir singing in four voices",
    "the inventor of the telephone",
    "how to write a letter of complaint",
    "a cat asleep on a sofa",
    "insurance against theft of jewellery",
    "the conjugation of French verbs",
    "why is my computer so slow",
    "a birthday present for my grandmother",
    "treatment of a broken tooth",
    "the election of a new president",
    "how to fold a paper crane",
    "a chemical formula of aspirin",
    "stress before an examination",
    "a novel about two sisters",
    "which shoes suit a black dress",
    "the discovery of penicillin",
    "how does a transistor work",
    "a lullaby for a newborn baby",
    "an appeal against a court's judgment",
    "practising meditation every morning",
    "the exchange rate of the dollar",
)


class Measured(NamedTuple):
    """The result of `measure_chance`.

    Attributes:
        scores: the measured scores for each kind of vectors. They are also stored in the table.
        problems: error messages. There is one message for each model that cannot be loaded.
    """

    scores: dict[VectorKind, ChanceScore]
    problems: tuple[str, ...]


def measure_chance(table: ImagesTable, config: Config, *, only_missing: bool = False) -> Measured:
    """Measure the best scores of unrelated queries in the latest version of a table.

    The measured scores are stored in the table.

    Args:
        table: any version of the table.
        config: settings for the models that embedded the table. If ``index.measure_chance`` is
            False, nothing is measured.
        only_missing: true to measure only the kinds of vectors for which the table stores no
            scores.
    """
    if not config.index.measure_chance:
        return Measured({}, ())
    latest = ImagesTable.open(table.location)
    uri, image_column = latest.location.uri, latest.image_column
    loads: dict[VectorKind, Callable[[], QueryEmbedder]] = {
        VectorKind.TEXT: lambda: make_table_embedder(uri, latest.text_column, config.embed)
    }
    if image_column is not None:
        loads[VectorKind.IMAGE] = lambda: make_table_image_embedder(
            uri, image_column, config=config.image_embed, images=config.images
        )
    columns = {c.kind: c.name for c in (latest.text_column, image_column) if c is not None}
    if only_missing:
        loads = {
            kind: load
            for kind, load in loads.items()
            if read_chance_score(latest.dataset, columns[kind]) is None
        }
    questions, problems = {}, []
    for kind, load in loads.items():
        try:
            questions[kind] = load().embed_queries(UNRELATED_QUESTIONS)
        except SkytextError as error:
            problems.append(f"searches cannot report that no image fits well: {error}")
    return Measured(measure_chance_scores(latest, questions), tuple(problems))
