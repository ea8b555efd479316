"""The line of a card with the stage of today."""

from tasks.reports.pages.template import with_stage

CARD = '<p class="verdict">x</p>\n<p id="stage">Stage today: unknown</p>\n<p>Stage today: other</p>'


def test_the_stage_of_a_card_is_replaced_each_time():
    once = with_stage(CARD, "champion", "ann: new routes\nfrom June on")
    assert '<p id="stage">Stage today: champion. Newest event: ann: new routes from June on</p>' in once
    twice = with_stage(once, "retired", "replaced by version 4")
    assert '<p id="stage">Stage today: retired. Newest event: replaced by version 4</p>' in twice
    assert "champion" not in twice
    assert "<p>Stage today: other</p>" in twice


def test_a_reason_is_text_and_a_card_of_an_earlier_release_stays():
    shown = with_stage(CARD, "refused", r"<script>alert(1)</script> \1")
    assert "<script>" not in shown
    assert r"\1" in shown
    assert with_stage("<p>old</p>", "champion", "x") == "<p>old</p>"
