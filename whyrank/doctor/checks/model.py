"""The model server and the manifest of what it serves."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from whyrank.doctor.context import Context
from whyrank.doctor.findings import Finding, broken, ok, unknown, warning
from whyrank.doctor.registry import check
from whyrank.errors import BadRequestError


@check("model.manifest")
async def manifest(context: Context) -> Sequence[Finding]:
    """The manifest can be read: without one, a new model under an old name would be given the old one's verdicts."""
    try:
        found = context.manifest()
    except BadRequestError as error:
        return [broken(str(error), "set WHYRANK_MODEL_MANIFEST to a manifest of this version of WhyRank")]
    if found is None:
        return [
            warning(
                "no manifest is set: the model's name alone tells one model's verdicts from another's",
                "set WHYRANK_MODEL_MANIFEST on sidecars and workers, or rename the model when it changes",
            )
        ]
    return [ok(f"{found.name}, revision {context.revision()}")]


@check("model.server")
async def server(context: Context) -> Sequence[Finding]:
    """The model server answers, and serves the model that the manifest (or WHYRANK_MODEL_NAME) names."""
    settings = context.settings
    url = f"{settings.model_url.rstrip('/')}/models"
    key = settings.model_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    try:
        answer = await context.http.get(url, headers=headers)
        answer.raise_for_status()
        served = [str(model["id"]) for model in answer.json()["data"]]
    except httpx.HTTPError as error:
        remedy = "start it, or set WHYRANK_MODEL_URL (with /v1) and WHYRANK_MODEL_API_KEY"
        return [broken(f"no model server answers at {url}: {error or type(error).__name__}", remedy)]
    except (ValueError, KeyError, TypeError):
        return [broken(f"what answers at {url} is no model server", "WHYRANK_MODEL_URL needs the /v1 at its end")]
    try:
        found = context.manifest()
    except BadRequestError:
        found = None
    wanted = (found.served_name if found else None) or settings.model_name
    if wanted not in served:
        remedy = "set WHYRANK_MODEL_NAME, the manifest's served_name, or the server's --served-model-name"
        return [broken(f"it serves {', '.join(served) or 'no model'}, not {wanted}", remedy)]
    return [ok(f"it serves {wanted}")]


@check("model.revision", needs=["sidecar.reachable", "model.manifest"])
async def revision(context: Context) -> Sequence[Finding]:
    """The sidecar keeps verdicts under the revision of the manifest that is looked at."""
    figures = await context.figures()
    served = [labels[0] for name, *labels in figures if name == "whyrank_model_info"]
    if not served or not served[0]:
        return [unknown("the sidecar knows no revision yet")]
    here = context.revision()
    if served[0] != here:
        return [
            warning(
                f"the sidecar's model is {served[0]}, the manifest and settings here make {here}",
                "give sidecars and workers the same WHYRANK_MODEL_* settings; or this command has others than they",
            )
        ]
    return [ok(f"revision {here}")]
