"""Ranking ids cannot be made up; request ids cannot forge log lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugin_service.api.ids import request_id
from plugin_service.rescoring.ids import RankingIds


def test_an_id_is_accepted_by_every_sidecar_with_the_secret_and_by_no_other() -> None:
    made = RankingIds("secret").new()
    assert RankingIds("secret").check(made)
    assert not RankingIds("another").check(made)


def test_ids_carry_144_random_bits_and_are_url_safe() -> None:
    ids = [RankingIds("secret").new() for _ in range(200)]
    assert len({made.split(".")[0] for made in ids}) == 200
    assert all(len(made.split(".")[0]) * 6 == 144 for made in ids)
    assert all(set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") for made in ids)


@pytest.mark.parametrize("position", [0, 10, 30, 66])
def test_an_id_with_one_character_changed_is_refused(position: int) -> None:
    made = RankingIds("secret").new()
    other = "A" if made[position] != "A" else "B"
    assert not RankingIds("secret").check(made[:position] + other + made[position + 1 :])


@given(st.text())
def test_any_text_is_refused_without_an_error(text: str) -> None:
    assert not RankingIds("secret").check(text)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"x-request-id", b"abc-1")], "abc-1"),
        ([(b"x-opaque-id", b"kibana:7")], "kibana:7"),
        ([(b"x-opaque-id", b"two"), (b"x-request-id", b"one")], "one"),
        ([(b"x-request-id", b"bad id\n"), (b"x-opaque-id", b"good")], "good"),
    ],
)
def test_the_callers_id_is_taken(headers: list[tuple[bytes, bytes]], expected: str) -> None:
    assert request_id(headers) == expected


@pytest.mark.parametrize("value", [b"", b"a b", b"a\nlevel=error", b"x" * 129, "é".encode()])
def test_an_unfit_id_is_replaced(value: bytes) -> None:
    assert len(request_id([(b"x-request-id", value)])) == 32
