"""Errors say where, why and what to do."""

from dreamseed_cli.core.errors import ErrorGroup, FailedError, MissingError, UsageError


def test_an_error_names_place_cause_and_remedy() -> None:
    """The text an operator reads holds all three, in this order."""
    error = MissingError(
        "nothing listens there", place="127.0.0.1:50051", remedy="Start it: dreamseed serve."
    )
    assert str(error) == "at '127.0.0.1:50051': nothing listens there. Start it: dreamseed serve."


def test_exit_codes_are_the_contracts() -> None:
    """2 for wrong usage, 3 for something missing, 4 for a failure while running."""
    assert [kind.exit_code for kind in (UsageError, MissingError, FailedError)] == [2, 3, 4]


def test_a_group_keeps_every_error_and_their_exit_code() -> None:
    """Several mistakes are told at once, one a line."""
    group = ErrorGroup([UsageError("one", place="a"), UsageError("two", place="b")])
    assert str(group) == "at 'a': one\nat 'b': two"
    assert group.exit_code == 2
    assert [error.to_data()["place"] for error in group.causes()] == ["a", "b"]
