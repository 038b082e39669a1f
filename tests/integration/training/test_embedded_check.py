"""The shipped model, served for real, ranks queries it never saw as its evaluation says."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import embedded_check
from whyrank.settings import Settings

pytestmark = pytest.mark.real_model
QUERIES = 8


def test_it_ranks_its_held_out_queries_as_it_claims(model_url: str, model_manifest: Path) -> None:
    settings = Settings(model_url=model_url, model_manifest=model_manifest)
    findings = embedded_check.check(settings, QUERIES, model_url)
    assert {each.system for each in findings} == set(embedded_check.SYSTEMS)
    assert [each for each in findings if not each.holds] == []
