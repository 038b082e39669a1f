"""Fake of the port Policies."""

from __future__ import annotations

from collections.abc import Mapping

from whyrank.types import Policy


class FakePolicies:
    """Policies in a dictionary; a change of it is seen at once."""

    def __init__(self, *policies: Policy) -> None:
        self.policies = {policy.index: policy for policy in policies}

    def lookup(self, index: str) -> Policy | None:
        return self.policies.get(index)

    def all(self) -> Mapping[str, Policy]:
        return self.policies
