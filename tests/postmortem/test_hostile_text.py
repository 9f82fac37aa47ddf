"""Alert data is data: whatever it holds, it is no markup, no template and no forged line."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from firebreak.domain.message import NoticeKind
from firebreak.domain.timeline import TimelineEntry
from firebreak.postmortem import wording
from firebreak.postmortem.markdown import code, markdown, prose
from firebreak.postmortem.notices import LINE, TITLE, render_notice
from firebreak.postmortem.report import build
from firebreak.timeline.phases import phases_of

Tell = Callable[..., tuple[TimelineEntry, ...]]

HOSTILE = [
    "<script>alert(1)</script>",
    "<!-- ",
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![pixel](https://evil.example/p.png)",
    "[ref]: https://evil.example",
    "https://evil.example/login",
    "www.evil.example",
    "<https://evil.example>",
    "<!channel> @here @everyone",
    "` ``` ```` \\` `",
    "```\n# not a fence",
    "a | b | c\n| d |",
    "\\| x \\\\| y `|` z",
    "\n\n# Heading\n\n- [x] done\n\n1. one",
    "\r\n---\r\n",
    "> quote",
    "    indented code",
    "1) list",
    "**bold** _it_ ~~no~~ $x$ &lt;b&gt; &#60;b&#62;",
    "{{ 7 * 7 }} {% for x in y %} {# c #} {{ ''.__class__.__mro__ }}",
    "\x1b[31mred\x1b[0m\x07\x00",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "line\u2028separator\u2029paragraph\x85next\x0bvt\x0cff",
    "\U000e0041\U000e0042 tags",
    "x" * 100_000,
]


def _structure(text: str) -> list[tuple[str, str, int]]:
    """Block and inline structure without the texts."""
    parsed = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)

    def flat(tokens: list[Token]) -> list[tuple[str, str, int]]:
        found: list[tuple[str, str, int]] = []
        for token in tokens:
            if token.type not in ("text", "code_inline", "text_special", "inline"):
                found.append((token.type, token.tag, token.nesting))
            found += flat(token.children or [])
        return found

    return flat(parsed)


def _bars(text: str) -> list[int]:
    return [line.count("|") for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("story", ["healed", "paged", "observe", "by_hand", "restored"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: repr(t[:20]))
def test_hostile_text_changes_nothing_in_the_structure_of_the_markdown(tell: Tell, story: str, text: str) -> None:
    """The same blocks, emphases and table cells as with a harmless word, and no link, image or tag at all."""
    hostile = tell(story, labels={"alertname": text, "service": text, "note": text}, text=text)
    harmless = tell(story, labels={"alertname": "word", "service": "word", "note": "word"}, text=" word")
    made = markdown(build(hostile, phases=phases_of(hostile)))
    plain = markdown(build(harmless, phases=phases_of(harmless)))
    structure = _structure(made)
    assert structure == _structure(plain)
    assert _bars(made) == _bars(plain)  # a cell too many is dropped by the parser, and its text with it
    assert not {kind for kind, _, _ in structure} & {"html_block", "html_inline", "link_open", "image", "fence"}


@pytest.mark.parametrize("story", ["healed", "paged", "observe", "by_hand", "restored"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: repr(t[:20]))
def test_notices_stay_short_and_printable(tell: Tell, story: str, text: str) -> None:
    """Every kind of notice: title and lines within their limits, one line each, nothing unprintable."""
    entries = tell(story, labels={"alertname": text, "service": text}, text=text)
    for kind in NoticeKind:
        notice = render_notice(kind, entries, body={"reason": text, "tier": 0, "step": 0})
        assert 0 < len(notice.title) <= TITLE
        for line in (notice.title, *notice.lines):
            assert len(line) <= LINE
            assert wording.clean(line) == line
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", line)


@pytest.mark.parametrize("text", ["a`b", "``", "`", "```x````", " ` "])
def test_a_code_span_cannot_be_left(text: str) -> None:
    """The whole text comes out as one code span with exactly that content."""
    (inline,) = [t for t in MarkdownIt("commonmark").parse(code(text)) if t.type == "inline"]
    (span,) = inline.children or []
    assert (span.type, span.content) == ("code_inline", wording.clean(text))


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("0.25 >= 0.05 and x < 3", "<p>0.25 &gt;= 0.05 and x &lt; 3</p>\n"),
        ("> quote", "<p>&gt; quote</p>\n"),
        ("1. one", "<p>1. one</p>\n"),
        ("- item", "<p>- item</p>\n"),
        ("# head", "<p># head</p>\n"),
        ("_a_ a_b *c*", "<p>_a_ a_b *c*</p>\n"),
        ("see https://e.example now", "<p>see <code>https://e.example</code> now</p>\n"),
        ("&amp; &lt;", "<p><code>&amp;amp;</code> <code>&amp;lt;</code></p>\n"),
    ],
)
def test_prose_reads_as_it_was_written(text: str, rendered: str) -> None:
    """Escaping changes the markup, never the words."""
    assert MarkdownIt("commonmark").render(prose(text)) == rendered


def test_template_text_in_an_alert_is_shown_and_not_run(tell: Tell) -> None:
    """Jinja syntax in a label comes out as it went in."""
    entries = tell("healed", labels={"note": "{{ 7 * 7 }}{% raw %}"}, text=" {{ 7 * 7 }}")
    made = markdown(build(entries, phases=phases_of(entries)))
    assert "`note={{ 7 * 7 }}{% raw %}`" in made
    assert "the tree is true {{ 7 \\* 7 }}" in made
    assert "true 49" not in made
