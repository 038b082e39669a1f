"""Addresses of the real components that the tests run against."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def opensearch_url() -> str:
    return os.environ.get("WHYRANK_TEST_OPENSEARCH", "http://127.0.0.1:9201")


@pytest.fixture(scope="session")
def elasticsearch_url() -> str:
    return os.environ.get("WHYRANK_TEST_ELASTICSEARCH", "http://127.0.0.1:19300")


@pytest.fixture(scope="session")
def redis_url() -> str:
    return os.environ.get("WHYRANK_TEST_REDIS", "redis://127.0.0.1:16379")


@pytest.fixture(scope="session")
def model_url() -> str:
    return os.environ.get("WHYRANK_TEST_MODEL", "http://127.0.0.1:18000/v1")
