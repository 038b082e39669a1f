"""The one reader of the environment. Settings are read once, at start, and passed as arguments.

Every field is a variable `WHYRANK_<NAME>`; docs/settings.md is generated from this file.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """All settings of the sidecar, the workers and the command line."""

    model_config = SettingsConfigDict(env_prefix="WHYRANK_", extra="forbid", frozen=True)

    # Where things are
    home: Path = Field(Path(".whyrank"), description="Folder for all state of `whyrank up`.")
    cache: Path | None = Field(
        None, description="Folder of what is installed once (jars, model server, model); unset: ~/.cache/whyrank."
    )
    engine_url: str = Field("http://127.0.0.1:9200", description="Address of OpenSearch or Elasticsearch.")
    engine_kind: Literal["auto", "opensearch", "elasticsearch"] = Field(
        "auto", description="Which engine answers there; `auto` asks it."
    )
    engine_user: str | None = Field(None, description="User for WhyRank's own calls (policies, indexing).")
    engine_password: SecretStr | None = Field(None, description="Password of that user.")
    engine_ca: Path | None = Field(None, description="CA bundle for an engine with TLS.")
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Redis or Valkey: verdicts, rankings and job queues."
    )
    model_url: str = Field("http://127.0.0.1:8000/v1", description="Model server (OpenAI protocol), with /v1.")
    model_name: str = Field("whyrank", description="Model name sent to the model server.")
    model_api_key: SecretStr | None = Field(None, description="Bearer token for the model server.")
    model_manifest: Path | None = Field(
        None, description="Manifest of the served model: its revision and fusion weights."
    )
    shadow_manifest: Path | None = Field(
        None, description="Manifest of a model that is tried beside the served one, while the file is there."
    )
    shadow_share: float = Field(
        0.0, ge=0.0, le=1.0, description="Share of searches that the shadow judges, too, in the background; 0 for none."
    )
    model_swap: Literal["host", "lora"] = Field(
        "host",
        description="How a promoted version comes into service: `host`, by the model host that `whyrank up` starts; "
        "`lora`, by loading its adapter into the running vLLM at WHYRANK_MODEL_URL.",
    )
    model_constraint: Literal["auto", "quote", "label", "none"] = Field(
        "auto",
        description="Constrained decoding: `quote` binds quotes to the passage's own sentences, `label` only the "
        "label, `none` for servers without it; `auto` takes the manifest's.",
    )
    bi_encoder: Path | None = Field(
        None,
        description="Folder of the bi-encoder that the manifest names; workers read it when it is there. "
        "Unset: verdicts without similarity.",
    )
    teacher_url: str | None = Field(
        None, description="Teacher of training (OpenAI protocol), with /v1; the recipe names its model."
    )
    teacher_api_key: SecretStr | None = Field(None, description="Bearer token for the teacher.")

    # The sidecar
    host: str = Field("127.0.0.1", description="Address the sidecar binds.")
    port: int = Field(8080, ge=0, le=65535, description="Port the sidecar binds.")
    secret: SecretStr = Field(
        default_factory=lambda: SecretStr(secrets.token_urlsafe(32)),
        description="Signs ranking ids; the same on every sidecar. Random at each start when unset.",
    )
    tenant_header: str | None = Field(
        None, description="Request header that names the tenant; verdicts are never shared between tenants."
    )
    max_body_bytes: int = Field(10_000_000, ge=1024, description="Largest request body that is read for rescoring.")
    max_deadline_ms: int = Field(60_000, ge=0, description="Largest deadline a request may ask for, milliseconds.")
    rerank_deadline_ms: int = Field(
        1_500, ge=0, description="Deadline of the rerank APIs when the request has none, milliseconds."
    )
    rerank_mode: Literal["reason", "label"] = Field("reason", description="Mode of the rerank APIs.")
    rerank_passage_tokens: int = Field(256, ge=16, le=8192, description="Token budget of the rerank APIs.")
    policy_refresh_s: float = Field(1.0, gt=0, description="How often policies are read from the engine, seconds.")
    engine_timeout_s: float = Field(60.0, gt=0, description="Longest wait for the engine, seconds.")

    # Verdicts, rankings and jobs
    verdict_ttl_s: int = Field(7 * 86400, gt=0, description="How long a verdict is kept, seconds.")
    recent_verdicts: int = Field(
        20_000, ge=0, description="Verdicts a sidecar keeps at hand for a minute, about 2 KB each; 0 for none."
    )
    ranking_ttl_s: int = Field(1800, gt=0, description="How long a ranking can be paged and read, seconds.")
    redis_timeout_s: float = Field(0.25, gt=0, description="Longest wait for Redis inside a search, seconds.")
    lease_s: float = Field(60.0, gt=0, description="Single flight: a pair may be enqueued again after this, seconds.")
    stale_after_s: float = Field(
        30.0, ge=0, description="A job that starts later than this after its deadline becomes background, seconds."
    )
    queue_limit: int = Field(2_000, gt=0, description="Pairs waiting in the interactive queue before searches shed.")
    redelivery_s: int = Field(60, gt=0, description="A killed worker's jobs go to another after this, seconds.")
    job_pairs: int = Field(4, ge=1, le=64, description="Pairs in one Celery job.")
    worker_jobs: int = Field(16, ge=1, le=512, description="Jobs one worker works on at once.")
    model_timeout_s: float = Field(120.0, gt=0, description="Longest wait for one answer of the model, seconds.")
    max_explanation_tokens: int = Field(96, ge=8, le=4096, description="New tokens of an explanation at most.")
    worker_metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus port of a worker; 0 for none.")

    # Training
    train_schedule: str | None = Field(
        None, description="When training runs: a crontab of five fields, in UTC, as `30 2 * * *`. Unset: never."
    )
    train_recipe: str = Field("embedded", description="Recipe of scheduled runs: a name of ours, or a file.")
    train_index: str | None = Field(None, description="Index that scheduled runs learn from; unset: the recipe's.")
    train_min_new: int = Field(
        100, ge=1, description="A scheduled run starts when so many documents were written since the last one."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level logged.")
    log_format: Literal["json", "console"] = Field("json", description="Form of log lines.")
