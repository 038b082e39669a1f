"""JSON taken apart one level at a time, so that what we do not change is spliced back verbatim.

Objects become `dict[str, Raw]` and arrays `list[Raw]`; a `Raw` is a view on the original bytes, and
`encode` copies it out as it stands. Numbers such as 1.10, 1e400 or 2^70, escapes and key order
survive what a decode to Python values would not keep.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

JsonObject = dict[str, Raw]

_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ITEMS = msgspec.json.Decoder(list[Raw])
_OBJECTS = msgspec.json.Decoder(list[dict[str, Raw]])
_STRING = msgspec.json.Decoder(str)
_ANY = msgspec.json.Decoder()

encode: Callable[[object], bytes] = msgspec.json.Encoder().encode

T = TypeVar("T")


class NotJsonError(ValueError):
    """These bytes are not JSON, or not of the kind that stands in this place."""


def decoded(decoder: msgspec.json.Decoder[T], data: bytes | Raw) -> T:
    """What the decoder makes of the data. Raises NotJsonError."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJsonError(str(error)) from error
    except RecursionError as error:
        raise NotJsonError("nested too deeply") from error


def object_of(data: bytes | Raw) -> JsonObject:
    """The members of an object. Raises NotJsonError."""
    return decoded(_OBJECT, data)


def unambiguous(data: bytes | Raw) -> JsonObject:
    """The members of an object in which no name stands twice. Raises NotJsonError.

    The engines refuse a repeated name, and a dictionary would let the last one win unnoticed. What stands within the
    members goes to the engine as it is, and is its to judge.
    """
    members = object_of(data)
    text = bytes(data)
    if b"\\" in text or any(text.count(b'"%b"' % name.encode()) > 1 for name in members):
        # mostly the same name further in: counted exactly, which takes a slower parser
        try:
            pairs = json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str)
        except (ValueError, RecursionError) as error:
            raise NotJsonError(str(error)) from error
        if len(pairs) != len(members):
            raise NotJsonError("a name stands twice")
    return members


def items_of(data: bytes | Raw) -> list[Raw]:
    """The items of an array. Raises NotJsonError."""
    return decoded(_ITEMS, data)


def objects_of(data: bytes | Raw) -> list[JsonObject]:
    """The members of each object of an array. Raises NotJsonError."""
    return decoded(_OBJECTS, data)


def text_of(data: bytes | Raw) -> str:
    """A string. Raises NotJsonError."""
    return decoded(_STRING, data)


def value_of(data: bytes | Raw) -> object:
    """Any JSON as Python values. Raises NotJsonError, also for numbers beyond a double."""
    return decoded(_ANY, data)


def first_byte(raw: Raw) -> int:
    """What kind of value this is: `"`, `{`, `[`, `t`, `f`, `n`, or a number's first character."""
    return int(memoryview(raw)[0])


_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: one character
    rb"|u(?P<lone>[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


class SurrogateShield:
    """Lets JSON with escaped lone surrogates (`"\\ud800"`) be decoded, and gives it back unchanged.

    Both engines store and return such strings, and no Unicode string can hold them: one document of
    that kind must not keep a whole search from being rescored. While the shield is up, each of them
    is a marker that the body's own hash makes unique.
    """

    def __init__(self, body: bytes) -> None:
        token = hashlib.blake2b(body, digest_size=12).hexdigest()
        self._marker = re.compile(f"<surrogate {token} ([0-9a-fA-F]{{4}})>")
        self._marker_bytes = re.compile(self._marker.pattern.encode())

        def shield(escape: re.Match[bytes]) -> bytes:
            lone = escape["lone"]
            return b"<surrogate %b %b>" % (token.encode(), lone) if lone else escape[0]

        self.body = _ESCAPE.sub(shield, body)

    def restore(self, body: bytes) -> bytes:
        """The markers as the escapes that they stood for."""
        return self._marker_bytes.sub(rb"\\u\1", body)

    def readable(self, text: str) -> str:
        """The markers as U+FFFD, as a reader of the text would see them."""
        return self._marker.sub("\ufffd", text)
