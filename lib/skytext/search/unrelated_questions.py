"""Unrelated queries: queries about subjects that no aerial image shows.

The best image for an unrelated query is a result of chance, so its score shows which scores mean
nothing. These scores depend on the model and on the table. So they are measured for each table
(`skytext.table.indexes.chance_score`).

The queries are not shuffled words of the table's descriptions, because shuffled words keep the
subject. With all-MiniLM-L6-v2, 95 % of the best scores of shuffled words are below 0.76 (RSITMD)
and 0.80 (RSICD). The best scores of more than 10 % of real captions are also below these values.
For the queries in this module, 95 % of the best scores are below 0.33 and 0.38. The best scores of
all real captions are above these values. docs/background/ranking.md contains the measurements.

The subjects are not visible from above: music, law, illness, language, feelings, cooking, money,
software, history, sport rules. Half of the queries are phrases, and half are questions, like real
queries.
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
        scores: the measured scores by kind of vector. They are stored in the table, too.
        problems: one message for each kind of vector whose model cannot be loaded.
    """

    scores: dict[VectorKind, ChanceScore]
    problems: tuple[str, ...]


def measure_chance(table: ImagesTable, config: Config, *, only_missing: bool = False) -> Measured:
    """Measure the scores of unrelated queries in the latest version of a table, and store them.

    Args:
        table: any version of the table.
        config: settings of the table's models. If ``index.measure_chance`` is False, nothing is
            measured.
        only_missing: whether to skip kinds of vectors whose scores are already stored.
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
