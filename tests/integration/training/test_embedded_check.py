"""The shipped model, served for real, ranks queries it never saw as its evaluation says."""

from __future__ import annotations

import pytest

from training import embedded_check
from whyrank.embedded import model_server
from whyrank.settings import Settings

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(not model_server.SHIPPED.is_dir(), reason="no trained model is shipped yet (bench/LOG.md)"),
]
QUERIES = 8


def test_it_ranks_its_held_out_queries_as_it_claims() -> None:
    findings = embedded_check.check(Settings(), QUERIES)
    assert {each.system for each in findings} == set(embedded_check.SYSTEMS)
    assert [each for each in findings if not each.holds] == []
