"""Fake of the port Announcements."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plugin_service.rescoring.ports import Outcome


class FakeSubscription:
    def __init__(self, owner: FakeAnnouncements, keys: Sequence[str], on_outcome: Callable[[str, Outcome], None]):
        self._owner = owner
        self.keys = frozenset(keys)
        self.on_outcome = on_outcome

    def close(self) -> None:
        self._owner.subscriptions.discard(self)


class FakeAnnouncements:
    """`announce` calls every open subscription of the key at once. `subscriptions` are those still open."""

    def __init__(self) -> None:
        self.subscriptions: set[FakeSubscription] = set()

    def subscribe(self, keys: Sequence[str], on_outcome: Callable[[str, Outcome], None]) -> FakeSubscription:
        subscription = FakeSubscription(self, keys, on_outcome)
        self.subscriptions.add(subscription)
        return subscription

    def announce(self, key: str, outcome: Outcome) -> None:
        for subscription in tuple(self.subscriptions):
            if key in subscription.keys:
                subscription.on_outcome(key, outcome)
