"""What the engines' Java libraries do to texts and numbers, as far as the callers of our rerank APIs depend on it.

Ported from: StringSubstitutor.java and StringEscapeUtils.java of apache/commons-text (with their defaults),
JSONParserBase.java of netplex/json-smart-v2 2.5.2 (`extractFloat` in permissive mode), and Gson as StringUtils.java of
opensearch-project/ml-commons sets it up.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

Json = dict[str, Any]


class CallerError(Exception):
    """What the caller's code throws; the search goes on only if it is told to."""


def substitute(template: str, values: Mapping[str, str], prefix: str, seen: tuple[str, ...] = ()) -> str:
    """`${...}` replaced, in replaced values, too; unknown names stay as they are. Raises CallerError for a cycle."""
    done = ""
    while (start := template.find(prefix)) >= 0 and (end := template.find("}", start)) >= 0:
        if start and template[start - 1] == "$":  # the escape sign goes, what it escapes stays
            done += template[: start - 1] + prefix
            template = template[start + len(prefix) :]
            continue
        name, _, default = template[start + len(prefix) : end].partition(":-")
        value = values.get(name, default or None)
        if value is None:
            done += template[: end + 1]
        elif name in seen:
            raise CallerError(f"IllegalStateException: Infinite loop in property interpolation of {name}")
        else:
            done += template[:start] + substitute(value, values, prefix, (*seen, name))
        template = template[end + 1 :]
    return done + template


def escape_json(text: str) -> str:
    """StringEscapeUtils.escapeJson: slashes too, and all beyond ASCII as UTF-16."""
    return json.dumps(text)[1:-1].replace("/", "\\/")


def gson(value: object) -> str:
    """Gson.toJson without HTML escapes."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return plain.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def json_smart(body: str) -> Any:
    """JsonPath's own parser: Integer or Long, Double up to 18 characters, BigDecimal beyond."""
    return json.loads(body, parse_float=lambda text: Decimal(text) if len(text) > 18 else float(text))


def cast_integer(value: object) -> int:
    """`(Integer) value`. Raises CallerError for everything else, a Long or a Double too."""
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise CallerError(f"ClassCastException: {value!r} cannot be cast to java.lang.Integer")
    return value


def cast_double(value: object) -> float:
    """`(Double) value`. Raises CallerError for everything else, an Integer or a BigDecimal too."""
    if type(value) is not float:
        raise CallerError(f"ClassCastException: {value!r} cannot be cast to java.lang.Double")
    return value


def to_float(value: float) -> float:
    """`Number.floatValue()`: 32 bits."""
    narrow: float = struct.unpack("f", struct.pack("f", value))[0]
    return narrow


def decoded_in_pieces(body: bytes, size: int) -> str:
    """A body that is decoded piece by piece as it arrives: letters that a piece ends within are lost."""
    return "".join(body[i : i + size].decode("utf-8", "replace") for i in range(0, len(body), size))
