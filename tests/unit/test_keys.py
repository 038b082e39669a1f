from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whyrank.keys import PairKeys, normalise_query
from whyrank.types import Mode

PARTS: dict[str, Any] = {
    "tenant": "t",
    "model_revision": "m",
    "mode": Mode.REASON,
    "query": "wal size",
    "content_hash": "c",
    "budget": 256,
}


def pair_key(*, content_hash: str, **shared: Any) -> str:
    keys = PairKeys(**shared)
    keys.key("another document first")
    return keys.key(content_hash)


def test_a_key_is_128_bits_of_its_parts_each_with_its_length() -> None:
    assert pair_key(**PARTS) == blake2b(b"1:t1:m6:reason8:wal size3:2561:c", digest_size=16).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": ""},
        {"model_revision": "n"},
        {"mode": Mode.LABEL},
        {"query": "wal"},
        {"content_hash": "d"},
        {"budget": 25},
    ],
)
def test_each_part_counts(change: dict[str, Any]) -> None:
    assert pair_key(**PARTS | change) != pair_key(**PARTS)


@pytest.mark.parametrize("query", ["  wal\n size ", "wal\u00a0size", "wal\u200b size", "\uff57al size"])
def test_spellings_of_one_query_share_a_key(query: str) -> None:
    assert pair_key(**PARTS | {"query": query}) == pair_key(**PARTS)


def test_case_is_kept() -> None:
    assert normalise_query("US  rules") == "US rules" != normalise_query("us rules")


TEXT = st.text(max_size=4)


@given(st.tuples(TEXT, TEXT, TEXT), st.tuples(TEXT, TEXT, TEXT))
def test_parts_do_not_run_together(first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
    def key(parts: tuple[str, str, str]) -> str:
        tenant, revision, text = parts
        return pair_key(tenant=tenant, model_revision=revision, mode=Mode.LABEL, query="", content_hash=text, budget=1)

    assert re.fullmatch("[0-9a-f]{32}", key(first))
    assert (key(first) == key(second)) is (first == second)


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise_query(normalise_query(text)) == normalise_query(text)
