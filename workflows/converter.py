"""The one payload converter: frozen dataclasses with timedelta and aware datetimes, equal after a round trip.

The default converter refuses timedelta; pydantic's turns NaN into null. This one is `firebreak.domain.codec` as JSON.
"""

from __future__ import annotations

import json
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
)

from firebreak.domain.codec import from_data, to_data


class CodecPayloadConverter(EncodingPayloadConverter):
    """`json/plain` payloads by the domain's codec; a type that the codec does not know is a TypeError."""

    @property
    def encoding(self) -> str:
        return "json/plain"

    def to_payload(self, value: Any) -> Payload | None:
        text = json.dumps(to_data(value), separators=(",", ":"), sort_keys=True, allow_nan=False)
        return Payload(metadata={"encoding": b"json/plain"}, data=text.encode())

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        data = json.loads(payload.data)
        return data if type_hint is None else from_data(type_hint, data)


class FirebreakPayloadConverter(CompositePayloadConverter):
    """The default converters with ours in the place of plain JSON."""

    def __init__(self) -> None:
        kept = [
            c
            for c in DefaultPayloadConverter.default_encoding_payload_converters
            if not isinstance(c, JSONPlainPayloadConverter)
        ]
        super().__init__(*kept, CodecPayloadConverter())


DATA_CONVERTER = DataConverter(payload_converter_class=FirebreakPayloadConverter)
