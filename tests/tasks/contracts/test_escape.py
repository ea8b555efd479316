"""A text is shown as it is, and nothing in it is interpreted: by a script, Markdown, a terminal or a plot."""

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.markdown import Markdown

from tasks.contracts.escape import for_markdown, for_plot, for_script, for_terminal, one_line
from tests.hostile import HOSTILE, Elements

pieces = st.sampled_from(
    [
        *HOSTILE,
        "<",
        "</script",
        "<!--",
        "[",
        "]",
        "[/",
        "/x]",
        "\\",
        "|",
        "`",
        "*",
        "_",
        "~",
        "&",
        "$",
        "\n",
        "\x1b[",
        "#",
    ]
)
texts = st.lists(st.one_of(pieces, st.text(max_size=8)), max_size=5).map("".join)


def visible(text: str) -> str:
    """Return a text without the character that has no width."""
    return text.replace("\u2060", "")


@given(texts, texts)
def test_json_in_a_script_ends_no_script_and_reads_as_the_same_text(first: str, second: str) -> None:
    data = for_script(json.dumps({first: [second]}))
    page = Elements(f"<html><script>var data = {data};</script><p>after</p></html>")
    assert (page.tags, page.comments) == (["html", "script", "p"], [])
    assert page.texts == [f"var data = {data};", "after"]
    (name, (value,)) = next(iter(json.loads(data).items()))
    assert (visible(name), visible(value)) == (visible(first), visible(second))


def test_a_text_without_tags_is_the_same_in_a_script() -> None:
    assert for_script("<b>a</b><br>%{x}<extra></extra> 5 > 3") == "<b>a</b><br>%{x}<extra></extra> 5 > 3"


def tokens(markdown: str) -> list:
    """Return the tokens of a text, without the paragraphs and the plain text."""
    everything = [token for block in Markdown(markdown).parsed for token in (block, *(block.children or ()))]
    return [t.type for t in everything if t.type not in ("paragraph_open", "paragraph_close", "inline", "text")]


def shown(markdown: str) -> str:
    return "".join(child.content for block in Markdown(markdown).parsed for child in block.children or ())


@given(texts)
def test_markdown_shows_a_text_as_one_paragraph_of_plain_text(text: str) -> None:
    assert set(tokens(for_markdown(text))) <= {"text_special"}
    assert shown(for_markdown(text)).strip() == one_line(text).strip()


@given(st.lists(texts, min_size=2, max_size=2))
def test_a_text_in_a_cell_of_a_table_stays_in_its_cell(cells: list[str]) -> None:
    table = f"| a | b |\n|---|---|\n| {for_markdown(cells[0])} | {for_markdown(cells[1])} |"
    blocks = Markdown(table).parsed
    assert [b.type for b in blocks].count("td_open") == 2
    contents = ["".join(c.content for c in b.children or ()) for b in blocks if b.type == "inline"]
    assert [text.strip() for text in contents] == ["a", "b", *(one_line(cell).strip() for cell in cells)]


@pytest.mark.parametrize(
    "text", ["tiny: log_loss 0.5 (99 of 100); -0.25 to +0.3", "2013-05: 1.5 h", "carrier_late_7d, a/b, 5 %", ""]
)
def test_a_common_text_is_the_same_in_markdown(text: str) -> None:
    assert for_markdown(text) == text


def printed(markup: str) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, soft_wrap=True, highlight=False, emoji=False)
    console.print(markup)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@given(texts, texts)
def test_a_terminal_shows_texts_as_they_are_beside_each_other_and_beside_markup(first: str, second: str) -> None:
    line = printed(f"[red]{for_terminal(first)}[/]{for_terminal(second)} [green]x[/] {for_terminal(first)}")
    plain = re.sub(r"\x1b\[\d*m", "", line)  # the colours are ours
    assert visible(plain) == visible(f"{one_line(first)}{one_line(second)} x {one_line(first)}\n")
    assert "\x1b" not in plain


def test_control_characters_are_visible() -> None:
    assert one_line("a\x1b[2Jb\x07\u202ec\nd\te\rf\x9bg") == r"a\x1b[2Jb\x07\u202ec d e f\x9bg"


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_plot_shows_a_text_as_it_is(text: str) -> None:
    from matplotlib.text import Text

    from tasks.reports.figures import as_png, new_figure

    figure, axes = new_figure("title")
    axes.set_yticks([0], [for_plot(text)])
    as_png(figure)
    label: Any = Text(text=for_plot(text))
    plain = one_line(text) if len(one_line(text)) <= 50 else f"{one_line(text)[:49]}…"
    assert label._preprocess_math(for_plot(text)) == (plain, False), "no formula"
