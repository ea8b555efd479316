"""Texts that somebody could put into a name, a category, a note or a reason to have them interpreted."""

import re
from html.parser import HTMLParser

SCRIPT = "</script><script>window.hacked = 1</script>"
HOSTILE = (
    SCRIPT,
    "<!--<script>window.hacked = 1</script>-->",
    "<img src=x onerror='window.hacked = 1'>",
    "<a href='javascript:window.hacked=1'>here</a>",
    "'\"><svg/onload=window.hacked=1>",
    "{{ 7 * 7 }} {% raw %} ${7*7} #{7*7}",
    "![track](http://attacker.example/x.png) [click](http://attacker.example)",
    "**bold** _italic_ ~~gone~~ `code` | cell | &lt;b&gt;",
    "# heading",
    "1. first\n\n- second\n\n```mermaid\ngraph",
    "[/red] closes nothing, [bold] opens, [link=http://attacker.example]here[/link]",
    "ends with \\",
    "\\[red]escaped?",
    "\x1b[2J\x1b]0;title\x07\r overwritten \u202egnp.exe",
    r"cost $\frac{1$ of $\b$",
)
"""Each begins or contains markup of HTML, a script, Jinja, Markdown, rich, a terminal, or matplotlib."""


def without_layout(text: str) -> str:
    """Return the letters, digits and signs of a text, without blanks and characters that have no width."""
    return re.sub(r"[\s\u2060]+", "", text)


class Elements(HTMLParser):
    """The elements, attributes and texts of a page, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.comments: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    @property
    def text(self) -> str:
        return without_layout("".join(self.texts))
