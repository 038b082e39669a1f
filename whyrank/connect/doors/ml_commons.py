"""OpenSearch's ml-commons: WhyRank as a remote model, used by a search pipeline's rerank processor.

Or, with explanations, by its `ml_inference` processor, which hands out what we answer by place: docs/api/callers.md.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

from whyrank.connect.steps import SOME_INDEX, Door, Given, Look, Plan, Request, Secret, Step, Undo
from whyrank.connect.survey import Asks, Survey, as_list, cluster_setting, is_true
from whyrank.connect.wish import Wish, is_public
from whyrank.engines import EngineKind
from whyrank.errors import BadRequestError, EngineError

NAME = "whyrank"
TRUSTED = "plugins.ml_commons.trusted_connector_endpoints_regex"
PRIVATE = "plugins.ml_commons.connector.private_ip_enabled"
PLUGIN = "opensearch-ml"
WINDOW = 50
PAGE = 10
"""Hits of a page where a search does not say how many."""
EXPLAINED = "whyrank-explained"
"""What connector, model and pipeline with explanations are called."""
REQUEST_BODY = (
    '{"documents":${parameters.documents},"query":"${parameters.query}",'
    '"model":"${parameters.model}","top_n":${parameters.top_n}}'
)
_EXPLAINED_BODY = (
    '{"model":"${parameters.model}","query":"${parameters.query}","documents":${parameters.documents},"order":"input"}'
)
_WORDS = "_request.ext.query_context.query_text"
"""Where `ml_inference` finds `ext.rerank.query_context.query_text`: the engine forgets the name `rerank` on its way."""


def unfit(survey: Survey) -> str | None:
    """OpenSearch 2.12 and later, with ml-commons and neural-search."""
    if survey.kind is not EngineKind.OPENSEARCH:
        return f"ml-commons is OpenSearch's; this is {survey.name}"
    if survey.version < (2, 12):
        return f"the rerank processor came with OpenSearch 2.12; this is {survey.name}"
    if survey.plugins is not None and PLUGIN not in survey.plugins:
        return f"the plugin {PLUGIN} is not installed on every node"
    if survey.processors is not None and "rerank" not in survey.processors:
        return "the rerank processor is not there: the plugin opensearch-neural-search is not installed on every node"
    return None


async def plan(engine: Asks, survey: Survey, wish: Wish) -> Plan:
    """Cluster settings, connector, model and search pipeline."""
    fields = wish.needed_fields()
    if wish.explanations:
        _check_explained(survey, fields)
    name = pipeline_name(wish)
    pipeline_path = f"/_search/pipeline/{quote(name, safe='')}"
    if (await engine.request("GET", pipeline_path)).ok:
        raise BadRequestError("name", f"there is a search pipeline {name!r} already; choose another name")
    model_path = "/_plugins/_ml/models/{model_id}"
    steps = (
        *await _settings_steps(engine, wish.sidecar_url),
        Step(
            "Create the connector",
            Request("POST", "/_plugins/_ml/connectors/_create", connector(wish)),
            undo=(Undo("Delete the connector", Request("DELETE", "/_plugins/_ml/connectors/{connector_id}")),),
            gives={"connector_id": "connector_id"},
        ),
        Step(
            "Register and deploy the model",
            Request(
                "POST",
                "/_plugins/_ml/models/_register?deploy=true",
                {"name": _model_name(wish), "function_name": "remote", "connector_id": Given("connector_id")},
            ),
            undo=(
                Undo("Undeploy the model", Request("POST", f"{model_path}/_undeploy")),
                Undo("Delete the model", Request("DELETE", model_path)),
            ),
            gives={"model_id": "model_id"},
            until=Look(model_path, ("model_state",), "DEPLOYED"),
        ),
        Step(
            "Create the search pipeline",
            Request("PUT", pipeline_path, pipeline(wish, fields)),
            undo=(Undo("Delete the search pipeline", Request("DELETE", pipeline_path)),),
        ),
    )
    return Plan(Door.ML_COMMONS, steps, _notes(wish, name), _example(wish, name, fields))


def pipeline_name(wish: Wish) -> str:
    """Of the search pipeline."""
    return wish.name or _model_name(wish)


def connector(wish: Wish) -> dict[str, Any]:
    """The connector. Its timeouts are whole seconds, and longer than the sidecar's deadline: it answers before."""
    action = {
        "action_type": "predict",
        "method": "POST",
        "url": f"{wish.sidecar_url}/v2/rerank",
        "headers": {"Authorization": "Bearer ${credential.key}"},
        "request_body": _EXPLAINED_BODY if wish.explanations else REQUEST_BODY,
    }
    if not wish.explanations:
        action["pre_process_function"] = "connector.pre_process.cohere.rerank"
        action["post_process_function"] = "connector.post_process.cohere.rerank"
    return {
        "name": _model_name(wish),
        "description": "WhyRank, with explanations" if wish.explanations else "WhyRank: explainable reranking",
        "version": 1,
        "protocol": "http",
        "credential": {"key": Secret(wish.key_variable)},
        "parameters": {"model": "whyrank"},
        "client_config": {
            "max_connection": 30,
            "connection_timeout": 1,
            "read_timeout": wish.rerank_deadline_ms // 1000 + 1,
            "max_retry_times": 0,
        },
        "actions": [action],
    }


def pipeline(wish: Wish, fields: tuple[str, ...]) -> dict[str, Any]:
    """Asks for the window instead of a page, reranks it, and cuts it to the page again."""
    model_id = Given("model_id")
    if wish.explanations:
        inference = {
            "model_id": model_id,
            "one_to_one": False,
            "ignore_failure": True,
            "input_map": [{"documents": fields[0], "query": _WORDS}],
            "output_map": [{"why_score": "results[*].relevance_score", "why": "results[*].explanation"}],
        }
        by_field = {"target_field": "why_score", "remove_target_field": True}
        reranking = [{"ml_inference": inference}, {"rerank": {"ignore_failure": True, "by_field": by_field}}]
    else:
        rerank = {
            "ignore_failure": True,
            "ml_opensearch": {"model_id": model_id},
            "context": {"document_fields": list(fields)},
        }
        reranking = [{"rerank": rerank}]
    factor = max(1.0, wish.known_window(WINDOW) / PAGE)
    return {
        "request_processors": [{"oversample": {"sample_factor": factor}}],
        "response_processors": [*reranking, {"truncate_hits": {}}],
    }


def trusted_pattern(sidecar_url: str) -> str:
    """The expression that allows the sidecar's address, and nothing else."""
    parts = urlsplit(sidecar_url)
    host = re.sub(r"([.\[\]+*?(){}|^$\\])", r"\\\1", parts.netloc)
    return f"^{parts.scheme}://{host}{parts.path}/.*$"


async def _settings_steps(engine: Asks, sidecar_url: str) -> list[Step]:
    """What the connector's address needs; nothing where it is allowed already."""
    changes: dict[str, tuple[Any, Any]] = {}
    pattern = trusted_pattern(sidecar_url)
    trusted, before, place = await cluster_setting(engine, TRUSTED)
    if pattern not in as_list(trusted):
        _refuse_transient(TRUSTED, place)
        # the setting replaces the list of well-known services, on which other connectors may rely
        changes[TRUSTED] = ([*as_list(trusted), pattern], before)
    if not is_public(sidecar_url):
        private, before, place = await cluster_setting(engine, PRIVATE)
        if not is_true(private):
            _refuse_transient(PRIVATE, place)
            changes[PRIVATE] = (True, before)
    if not changes:
        return []
    undo = tuple(
        Undo(
            f"Set {name} back",
            Request("PUT", "/_cluster/settings", {"persistent": {name: before}}),
            Look("/_cluster/settings?flat_settings=true", ("persistent", name), _as_given(value)),
        )
        for name, (value, before) in changes.items()
    )
    body = {"persistent": {name: value for name, (value, _) in changes.items()}}
    return [Step("Allow the connector's address", Request("PUT", "/_cluster/settings", body), undo=undo)]


def _refuse_transient(name: str, place: str) -> None:
    if place == "transient":
        raise EngineError(f"{name} is set transiently, which would hide the persistent value: unset that first")


def _as_given(value: Any) -> Any:
    """A setting as the engine gives it back."""
    return str(value).lower() if isinstance(value, bool) else value


def _model_name(wish: Wish) -> str:
    return EXPLAINED if wish.explanations else NAME


def _check_explained(survey: Survey, fields: tuple[str, ...]) -> None:
    """Raises EngineError or BadRequestError where `ml_inference` cannot do it."""
    if survey.version < (2, 18):
        raise EngineError(f"reranking by a field came with OpenSearch 2.18; this is {survey.name}")
    if len(fields) != 1:
        raise BadRequestError("fields", f"ml_inference reads one field, not {', '.join(fields)}")


def _notes(wish: Wish, name: str) -> tuple[str, ...]:
    if wish.explanations:
        hits = "Hits come back reordered, each with its explanation in `why` of its _source."
    else:
        hits = "Hits come back reordered, without explanations: --explanations, the plugin and the proxy give them."
    return (
        f"Searches name the pipeline (?search_pipeline={name}), and the words in ext.rerank.query_context.query_text.",
        hits,
        "Both cluster settings hold for every connector of the cluster; the second lets connectors reach private "
        "addresses, so keep the first as narrow as it is.",
        "A search with size 0 breaks the processors, and a query that is itself JSON is not escaped by ml-commons: "
        "ignore_failure makes both keep the engine's order.",
    )


def _example(wish: Wish, name: str, fields: tuple[str, ...]) -> Request:
    words = "words of a user"
    return Request(
        "POST",
        f"/{wish.index or SOME_INDEX}/_search?search_pipeline={quote(name, safe='')}",
        {
            "query": {"multi_match": {"query": words, "fields": list(fields)}},
            "ext": {"rerank": {"query_context": {"query_text": words}}},
        },
    )
