from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytext.captions.parsing import (
    FIELDS,
    Variant,
    document_text,
    guide_pattern,
    merge_distinct,
    parse_answer,
    search_text,
)

GOOD = {
    "one_sentence": 'A river called "Drau" crosses fields.',
    "feature": "Small houses (north); a road\\track in the south-east.",
    "caption": "Überall Wald: the forest – dense – covers the west.",
}


def answer(num_objects: int, found: dict[str, str] = GOOD) -> str:
    objects = [found] * num_objects
    value = objects[0] if num_objects == 1 else {"variants": objects}
    return json.dumps(value, ensure_ascii=False)


def obeys(text: str, num_objects: int = 1) -> bool:
    return re.fullmatch(guide_pattern(num_objects), text) is not None


@pytest.mark.parametrize("num_objects", [1, 2, 5, 32])
def test_the_guide_takes_a_good_answer_as_json_writes_it(num_objects: int) -> None:
    assert obeys(answer(num_objects), num_objects)


@pytest.mark.parametrize("num_objects", [1, 5])
def test_the_guide_requires_the_exact_number_of_objects(num_objects: int) -> None:
    for other in {1, 2, 4, 5, 6} - {num_objects}:
        assert not obeys(answer(other), num_objects)


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_the_guide_refuses_control_characters(code: int) -> None:
    bad = answer(1).replace("river", f"ri{chr(code)}ver")
    assert not obeys(bad)
    assert not obeys(bad.replace("ri", "", 1).replace("A ", chr(code), 1))


@pytest.mark.parametrize(
    "found",
    [
        *({k: v for k, v in GOOD.items() if k != name} for name in FIELDS),
        *({**GOOD, name: ""} for name in FIELDS),
        *({**GOOD, name: "  "} for name in FIELDS),
        {**GOOD, "more": "text"},
        dict(reversed(GOOD.items())),
        {},
    ],
    ids=lambda found: ",".join(f"{k}={len(v)}" for k, v in found.items()),
)
@pytest.mark.parametrize("num_objects", [1, 5])
def test_the_guide_refuses_another_form(found: dict[str, str], num_objects: int) -> None:
    assert not obeys(answer(num_objects, found), num_objects)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        answer(1) + " ",
        " " + answer(1),
        answer(1) + answer(1),
        f"```json\n{answer(1)}\n```",
        answer(1)[:-1],
        answer(1).replace("river", r"ri\nver"),
        answer(1).replace("river", r"ri\u0041ver"),
        answer(1).replace('"A river', '"A "river'),
        json.dumps({**GOOD, "caption": 3}),
        json.dumps({**GOOD, "caption": None}),
    ],
)
def test_the_guide_refuses_what_is_not_the_answer_alone(text: str) -> None:
    assert not obeys(text)


_CHARS = st.characters(exclude_categories=["Cc", "Cs"])
_TEXTS = st.text(_CHARS, min_size=1).filter(lambda text: text[0] not in '"\\ ' and text.strip())


@given(texts=st.tuples(_TEXTS, _TEXTS, _TEXTS))
def test_every_answer_that_the_token_mask_allows_parses_to_the_same_words(
    texts: tuple[str, str, str],
) -> None:
    found = dict(zip(FIELDS, texts, strict=True))
    text = answer(1, found)
    assert obeys(text)
    (variant,) = parse_answer(text, "stop")
    for name in FIELDS:
        assert getattr(variant, name).split() == found[name].split()


def one(**changes: object) -> dict[str, object]:
    return {"one_sentence": "a", "feature": "b", "caption": "c", **changes}


A = Variant("a", "b", "c")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(one()),
        json.dumps({"variants": [one()]}),
        json.dumps([one()]),
        json.dumps(one(), indent=2),
        f"```json\n{json.dumps(one())}\n```",
        f"  ```\n{json.dumps(one(), indent=1)}\n```\n\n",
        json.dumps(one(confidence=0.9)),
        json.dumps(one(one_sentence="  a\n")),
    ],
)
def test_every_usual_form_of_an_answer_is_read(text: str) -> None:
    assert parse_answer(text, "stop") == [A]


def test_the_variants_come_in_their_order() -> None:
    objects = [one(caption=str(i)) for i in range(5)]
    variants = parse_answer(json.dumps({"variants": objects}), "stop")
    assert [variant.caption for variant in variants] == ["0", "1", "2", "3", "4"]
    assert {variant.finish_reason for variant in variants} == {"stop"}


@pytest.mark.parametrize("reason", ["length", "abort", "error", "", None])
def test_an_answer_that_was_cut_off_gives_nothing(reason: str | None) -> None:
    assert parse_answer(json.dumps(one()), reason) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "A river crosses fields.",
        json.dumps(one())[:-5],
        "{'one_sentence': 'a', 'feature': 'b', 'caption': 'c'}",
        f"Sure! {json.dumps(one())}",
        "```json\n```",
        "null",
        "3",
        '"text"',
        "[]",
        "{}",
        "[[]]",
        '{"variants": []}',
        '{"variants": null}',
        '{"variants": "a"}',
        '{"variants": {"one_sentence": "a", "feature": "b", "caption": "c"}}',
        "9" * 5000,
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"variants": ' + "[" * 100_000,
    ],
    ids=lambda text: text[:30],
)
def test_invalid_bytes_return_nothing(text: str) -> None:
    assert parse_answer(text, "stop") == []


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [None, "", " \t\n", 3, True, ["a"], {"a": "b"}])
def test_only_the_object_with_a_bad_field_is_dropped(name: str, value: object) -> None:
    text = json.dumps({"variants": [one(**{name: value}), one(), 7, None, "a"]})
    assert parse_answer(text, "stop") == [A]


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_drops_the_object(name: str) -> None:
    found = one()
    del found[name]
    assert parse_answer(json.dumps([found, one()]), "stop") == [A]


@pytest.mark.parametrize("raw", ["\n", "\t", "\r\n", "\x0b", "  "])
def test_raw_control_characters_become_one_space(raw: str) -> None:
    text = json.dumps(one(caption="two@words")).replace("@", raw)
    assert parse_answer(text, "stop") == [Variant("a", "b", "two words")]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("half", ["\\ud83d", "\\ude80", "\\ude80\\ud83d", "\ud83d"])
def test_half_a_character_drops_the_object(name: str, half: str) -> None:
    """Test a lone surrogate, because UTF-8 cannot represent it. Therefore Arrow cannot store it."""
    objects = [one(one_sentence=text) for text in "abc"]
    objects[1][name] = "in HERE here"
    text = json.dumps({"variants": objects}).replace("HERE", half)
    variants = parse_answer(text, "stop")
    assert [variant.one_sentence for variant in variants] == ["a", "c"]


def test_a_character_in_two_halves_is_kept() -> None:
    text = json.dumps(one(one_sentence="a 🚀 rises"))
    assert "\\ud83d\\ude80" in text
    assert parse_answer(text, "stop")[0].one_sentence == "a 🚀 rises"


def test_duplicates_are_found_through_case_and_space() -> None:
    first = Variant("A River", "b", "c")
    same = [Variant("a river", "B", "C"), Variant(" A\n RIVER ", "b ", "c"), first]
    assert merge_distinct([], [first, *same], 9) == [first]
    assert merge_distinct([first], same, 9) == [first]
    assert Variant("STRASSE", "b", "c").folded() == Variant("Straße", "b", "c").folded()


@pytest.mark.parametrize("name", FIELDS)
def test_variants_that_differ_in_one_field_are_not_duplicates(name: str) -> None:
    other = Variant(**{**{"one_sentence": "a", "feature": "b", "caption": "c"}, name: "x"})
    assert merge_distinct([A], [other], 9) == [A, other]


def test_the_fields_are_compared_apart() -> None:
    assert Variant("a b", "c", "d").folded() != Variant("a", "b c", "d").folded()


@pytest.mark.parametrize("limit", range(7))
def test_merging_stops_at_the_limit_and_keeps_the_order(limit: int) -> None:
    new = [Variant(str(i), "b", "c") for i in range(5)]
    assert merge_distinct([], new, limit) == new[:limit]
    assert merge_distinct(new[:2], new, max(limit, 2)) == new[: max(limit, 2)]


def test_merging_leaves_what_it_was_given() -> None:
    have = [A]
    merged = merge_distinct(have, [Variant("x", "y", "z")], 5)
    assert have == [A]
    assert len(merged) == 2


def test_a_document_is_laid_out_as_in_rsrt() -> None:
    variant = Variant("A river.", "Water in the north.", "The river bends.")
    assert document_text(variant) == (
        "ONE_SENTENCE: A river.\nFEATURE: Water in the north.\nCAPTION: The river bends."
    )


def test_the_text_for_full_text_search_holds_every_variant() -> None:
    assert search_text([A, Variant("d", "e", "f")]) == "a\nb\nc\n\nd\ne\nf"
    assert search_text([]) == ""
