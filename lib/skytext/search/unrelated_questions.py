"""Questions that no aerial image answers, to interpret scores.

The best image of such a question is best by chance. The scores of such images depend on the model
and on the table, so they are measured for each table (`skytext.table.indexes.chance_score`).

The questions are sentences about other subjects, not shuffled words of the table's descriptions.
Shuffled words keep the subject: with all-MiniLM-L6-v2, 95 % of them stay below 0.76 (RSITMD) and
0.80 (RSICD), and so do more than a tenth of real captions. 95 % of these questions stay below 0.33
and 0.38, and no real caption does. docs/background/ranking.md has the figures.

Each is about a subject that is not visible from above: music, law, illness, language, feelings,
cooking, money, software, history, sport rules. Half are phrases and half are questions, like real
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
        scores: the measured and stored scores.
        problems: one line for each kind of vectors whose model cannot be loaded.
    """

    scores: dict[VectorKind, ChanceScore]
    problems: tuple[str, ...]


def measure_chance(table: ImagesTable, config: Config, *, only_missing: bool = False) -> Measured:
    """Measure the scores of unrelated questions in a table, and store them with its latest version.

    Args:
        table: any version of it.
        config: how to run the table's models, and whether to measure at all
            (``index.measure_chance``).
        only_missing: leave out vectors that already have a stored measure.
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
            problems.append(f"searches cannot say when nothing fits well: {error}")
    return Measured(measure_chance_scores(latest, questions), tuple(problems))
