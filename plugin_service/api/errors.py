"""Every error of the HTTP doors as one `Problem`, and its shapes on the wire.

Our own routes answer `{"error": {"type", "message", "field"}}`. The rerank routes answer in the shape of the
API they stand in for: each passes its renderer to `shaped_route`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from whyrank.errors import BadRequestError, WhyRankError

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Problem:
    """What went wrong, before it has a shape. `type` is a stable snake_case word; `field` names the culprit."""

    status: int
    type: str
    message: str
    field: str | None = None


Render = Callable[[Problem], Response]


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str
    message: str
    field: str | None = None


class ErrorBody(BaseModel):
    """The error answer of our own routes."""

    error: ErrorDetail


def problem_of(error: Exception) -> Problem:
    """The problem behind any exception. One that is not foreseen is logged here, and tells the caller nothing."""
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors())
    if isinstance(error, HTTPException):
        return Problem(error.status_code, _status_word(error.status_code), str(error.detail))
    if isinstance(error, WhyRankError):
        field = error.field if isinstance(error, BadRequestError) else None
        return Problem(error.status, _class_word(type(error)), str(error), field)
    log.error("request_failed", exc_info=error)
    return Problem(500, "internal", "an error inside WhyRank; its log says more under this request's id")


def own_error(problem: Problem) -> Response:
    """The shape of our own routes."""
    detail = {"type": problem.type, "message": problem.message, "field": problem.field}
    return JSONResponse({"error": detail}, problem.status)


def install(app: FastAPI) -> None:
    """Make `app` answer all errors in our own shape (routes of `shaped_route` have theirs)."""

    async def handle(_: Request, error: Exception) -> Response:
        response = own_error(problem_of(error))
        if isinstance(error, HTTPException) and error.headers:
            response.headers.update(error.headers)
        return response

    for kind in (RequestValidationError, HTTPException, WhyRankError, Exception):
        app.add_exception_handler(kind, handle)


def shaped_route(render: Render) -> type[APIRoute]:
    """A route class whose errors, all of them, are answered by `render`."""

    class ShapedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def shaped(request: Request) -> Response:
                try:
                    return await handle(request)
                except Exception as error:  # noqa: BLE001 - the one place where this route's errors get their shape
                    return render(problem_of(error))

            return shaped

    return ShapedRoute


def _invalid(errors: Sequence[Any]) -> Problem:
    first = errors[0]
    if first["type"] == "json_invalid":
        return Problem(400, "json_invalid", f"the body is not JSON: {first['ctx']['error']}")
    field = _path(first["loc"][1:])
    if not field:
        return Problem(422, "not_an_object", "the body must be a JSON object, sent with Content-Type: application/json")
    return Problem(422, first["type"], f"{field}: {first['msg']}", field)


def _path(location: Sequence[str | int]) -> str:
    """("documents", 3, "text") -> "documents[3].text"."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _status_word(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")


def _class_word(kind: type[WhyRankError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__.removesuffix("Error")).lower()
