"""Escape values for each kind of output: a name, a category or a reason is shown as text and never interpreted.

HTML has no function here: all pages are rendered by `tasks/reports/pages/template.py`, whose Jinja environment escapes every value.
Evidently writes its own pages, see `for_script`.
"""

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters of terminals, line breaks, and characters that change the direction of text."""
MARKDOWN = re.compile(r"[\\`*\[\]<>|~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[#+=-](?=[#+=\s-]|$)|^\d+(?=[.)](?:\s|$))")
"""Characters that have a meaning in GitHub's Markdown. An underscore within a word has none."""
TAG = re.compile(r"<(?!/?(?:b|br|extra)>)")
"""Each `<` but that of the tags without attributes that Evidently's plots contain."""
RICH = re.compile(r"\[[a-z#/@][^[]*?\]")
"""Markup of `rich`."""
OPEN = re.compile(r"\[(?=[a-z#/@][^\[\]]*$)|\\(?=\[|$)")
"""A bracket that a later text could close, and a backslash that would escape a bracket."""
LONGEST_LABEL = 50
"""Characters of a label in a plot."""
WORD_JOINER = "\u2060"
"""A character without width."""


def one_line(value: object) -> str:
    r"""Return text as one line: blanks for line breaks and tabs, `\x1b` for a control character."""
    return CONTROL.sub(lambda match: _control_text(match[0]), str(value))


def for_script(text: str) -> str:
    r"""Return text, or JSON as text, that can neither end a script of an HTML page nor begin a tag or a comment.

    `<` gets a character without width after it, so the text looks the same. An escape such as `\u003c` would not last: Evidently's server
    reads a stored report as JSON and writes it into a script again.
    """
    return TAG.sub(f"<{WORD_JOINER}", text)


def for_markdown(value: object) -> str:
    """Return text that Markdown shows as it is, in a paragraph, a list or a cell of a table."""
    return MARKDOWN.sub(lambda match: _escaped(match[0]), one_line(value))


def for_terminal(value: object) -> str:
    """Return text that a console of `rich` prints as one line, as it is, also between other texts and markup.

    `rich.markup.escape` leaves markup that only later text completes.
    """
    return RICH.sub(r"\\\g<0>", OPEN.sub(rf"\g<0>{WORD_JOINER}", one_line(value)))


def for_plot(value: object) -> str:
    """Return text for a label of matplotlib, which would read what is between two dollar signs as a formula. Long text is cut."""
    text = one_line(value)
    text = text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
    return text.replace("$", r"\$")


def _control_text(character: str) -> str:
    return " " if character in "\t\n\v\f\r\x85\u2028\u2029" else character.encode("unicode_escape").decode()


def _escaped(match: str) -> str:
    """Return a match of `MARKDOWN` with a backslash: before it, or after the number that would begin a list."""
    return f"{match}\\" if match.isdigit() else f"\\{match}"
