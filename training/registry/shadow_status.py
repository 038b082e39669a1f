"""How the shadow's orders differ from those that were answered, as a sidecar's figures tell."""

from __future__ import annotations

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from whyrank.embedded import model_host
from whyrank.embedded import state as states
from whyrank.errors import BadRequestError, WhyRankError
from whyrank.prompt import Constraint
from whyrank.records import load_manifest, model_revision
from whyrank.registry import Registry
from whyrank.settings import Settings


class ShadowStatus(msgspec.Struct, frozen=True):
    """How the shadow's orders differ from those that were answered, since the sidecar started."""

    version: str | None
    running: bool
    searches: int
    """Judged in full by both."""
    unjudged: int
    changed: float | None
    """Share of the searches whose first ten hits are others or in another order; None before the first."""
    tau: float | None
    """Mean of Kendall's tau of the two orders."""
    words: str


def shadow_status(registry: Registry, settings: Settings, sidecar_url: str | None = None) -> ShadowStatus:
    """The shadow and the sidecar's figures of it. Raises WhyRankError when the sidecar does not answer."""
    version = registry.shadowed()
    if version is None:
        return ShadowStatus(
            None, False, 0, 0, None, None, "no version runs in shadow (whyrank train models shadow VERSION)"
        )
    path = settings.shadow_manifest or model_host.shadow_path(settings.home)
    try:
        manifest = load_manifest(path)
    except BadRequestError:
        words = f"{version} is to run in shadow, but does not (yet): {path} is not there; WHYRANK_SHADOW_SHARE above 0?"
        return ShadowStatus(version, False, 0, 0, None, None, words)
    wanted = None if settings.model_constraint == "auto" else Constraint(settings.model_constraint)
    figures = _figures(_sidecar(settings, sidecar_url), model_revision(manifest, settings.model_name, wanted))
    same, different, unjudged = (int(figures.get(result, 0)) for result in ("same", "changed", "unjudged"))
    searches = same + different
    if not searches:
        words = f"{manifest.name} runs in shadow, and has judged no search in full yet ({unjudged} not in time)"
        return ShadowStatus(manifest.name, True, 0, unjudged, None, None, words)
    changed, tau = different / searches, figures["tau_sum"] / figures["tau_count"]
    words = (
        f"{manifest.name} runs in shadow. Of {searches} searches that both models judged, it would have changed the "
        f"first ten hits of {changed:.0%}; Kendall's tau of the two orders is {tau:.3f} on average. "
        f"{unjudged} more were not judged in time."
    )
    return ShadowStatus(manifest.name, True, searches, unjudged, changed, tau, words)


def _sidecar(settings: Settings, url: str | None) -> str:
    state = states.running(settings.home.resolve())
    if url is None and state is not None:
        return state.urls[states.SIDECAR]
    return url or f"http://{settings.host}:{settings.port}"


def _figures(url: str, revision: str) -> dict[str, float]:
    """The sidecar's figures of the shadow of this revision, by result, and tau's sum and count."""
    try:
        text = httpx.get(f"{url.rstrip('/')}/_whyrank/metrics", timeout=10).raise_for_status().text
    except httpx.HTTPError as error:
        raise WhyRankError(f"no sidecar answers at {url}: {error}") from error
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("revision") != revision:
                continue
            if sample.name == "whyrank_shadow_searches_total":
                found[sample.labels["result"]] = sample.value
            elif sample.name.startswith("whyrank_shadow_kendall_tau_"):
                found[f"tau_{sample.name.rpartition('_')[2]}"] = sample.value
    return found
