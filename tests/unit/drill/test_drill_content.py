"""What differs between two servers' contents, and what of that is damage."""

from __future__ import annotations

from dreamseed_cli.backup.manifest import Table
from dreamseed_cli.drill.content import NO_TABLE, Content, checks_of, compare_tables


def content(schema: tuple[str, ...] = ("column a",), **tables: tuple[int, str]) -> Content:
    """Tables of one database by name: rows and digest."""
    made = {
        ("school", "public", name): Table(
            database="school", schema_name="public", name=name, rows=rows, digest=digest * 64
        )
        for name, (rows, digest) in tables.items()
    }
    return Content(100, {"school": schema}, made)


_SAME = content(learner=(3, "a"), answer=(5, "b"))


def test_equal_contents_pass_and_the_source_is_not_asked_again() -> None:
    """Reading a large source twice for nothing would touch the live system."""

    def again() -> Content:
        raise AssertionError

    checks = checks_of(_SAME, _SAME, again, complete=True)
    assert [check.passed for check in checks] == [True, True, True]
    assert checks[1].detail == "2 of 2 tables, 8 rows, equal"


def test_other_rows_other_content_and_a_missing_table_are_damage() -> None:
    """Of a table that stood still."""
    found = content(learner=(2, "c"), answer=(5, "c"))
    compared = compare_tables(_SAME, found, lambda: _SAME, complete=True)
    assert compared.wrong_count == (("school", "public", "learner"),)
    assert compared.wrong_content == (("school", "public", "answer"),)
    gone = checks_of(_SAME, content(learner=(3, "a")), lambda: _SAME, complete=True)
    assert [check.passed for check in gone] == [True, False, True]
    assert "school.public.answer" in gone[1].detail


def test_a_table_that_moved_meanwhile_is_told_and_the_others_are_compared() -> None:
    """It does not fail the drill, and is not counted as equal."""
    now = content(learner=(4, "d"), answer=(5, "b"))
    compared = compare_tables(_SAME, now, lambda: now, complete=True)
    assert compared.moving == (("school", "public", "learner"),)
    checks = checks_of(_SAME, now, lambda: now, complete=True)
    assert [check.passed for check in checks] == [True, True, True]
    assert checks[1].detail == "1 of 2 tables, 5 rows, equal; 1 changed meanwhile: school.public.learner"


def test_where_every_table_moved_nothing_was_checked() -> None:
    """And nothing is said to have passed."""
    now = content(learner=(4, "d"), answer=(6, "d"))
    checks = checks_of(_SAME, now, lambda: now, complete=True)
    assert [check.passed for check in checks] == [True, None, None]


def test_tables_without_a_row_are_no_comparison_where_others_moved() -> None:
    """That nothing equals nothing proves none of the rows. Where no table has any, it is all there is."""
    before, now = content(learner=(3, "a"), empty=(0, "0")), content(learner=(4, "d"), empty=(0, "0"))
    checks = checks_of(before, now, lambda: now, complete=True)
    assert [check.passed for check in checks] == [True, None, None]
    bare = content(empty=(0, "0"))
    assert [check.passed for check in checks_of(bare, bare, lambda: bare, complete=True)] == [True] * 3


def test_a_difference_of_what_was_lost_is_not_checked() -> None:
    """What came back is older than what was noted: damage looks the same, so that neither is said."""
    older = content(learner=(1, "e"), answer=(5, "b"))
    checks = checks_of(_SAME, older, lambda: _SAME, complete=False)
    assert [check.passed for check in checks] == [True, None, None]
    assert "1 differ, as what is older than the noted content may: school.public.learner" in checks[2].detail
    assert [check.passed for check in checks_of(_SAME, _SAME, lambda: _SAME, complete=False)] == [True] * 3


def test_without_a_table_nothing_was_compared() -> None:
    """And it says so, instead of that none of none differ."""
    none = content()
    schema, *others = checks_of(none, none, lambda: none, complete=True)
    assert schema.passed
    assert [(check.passed, check.detail) for check in others] == [(None, NO_TABLE)] * 2


def test_another_schema_is_named() -> None:
    """Damage, unless what came back is older than what was noted."""
    other = content(("column b",), learner=(3, "a"), answer=(5, "b"))
    (schema, *_) = checks_of(_SAME, other, lambda: _SAME, complete=True)
    assert schema.passed is False
    assert "column a; column b" in schema.detail
    assert checks_of(_SAME, other, lambda: _SAME, complete=False)[0].passed is None
