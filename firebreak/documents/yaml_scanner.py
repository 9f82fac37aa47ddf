"""ruamel's scanner, strict where it is lax: no tags, and no escapes that are no characters."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.scanner import Scanner, ScannerError

_TAG = re.compile(r"![^\s\0,\[\]{}]+")
_SHOWN = 40  # characters of a tag
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")  # no UTF-8 file can hold one, only an escape


class TagFound(MarkedYAMLError):
    """A tag, which no document may have; `problem` is the whole sentence."""


class StrictScanner(Scanner):
    """Raises TagFound at a tag before it is decoded (which takes ruamel minutes for a long one), and ScannerError at
    an escape that is no character, where ruamel lets `chr` fail."""

    def scan_tag(self) -> Any:
        if found := _TAG.match(self.reader.prefix(_SHOWN)):  # a lone ! only says: text
            raise TagFound(None, None, f"tags are not read here: remove {found[0]}", self.reader.get_mark())
        return super().scan_tag()

    def scan_flow_scalar_non_spaces(self, double: Any, start_mark: Any) -> Any:
        try:
            chunks = super().scan_flow_scalar_non_spaces(double, start_mark)
        except (ValueError, OverflowError):
            chunks = None
        if chunks is None or _HALF_A_PAIR.search("".join(chunks)):
            raise ScannerError(
                "while scanning a double-quoted scalar",
                start_mark,
                "an escape is no character: write the character itself",
                self.reader.get_mark(),
            )
        return chunks
