"""A key that no file of its kind has is told in one way, whoever reads the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.bench.workload.files import load as load_workload
from dreamseed_cli.core.data_file import read_data
from dreamseed_cli.core.errors import ErrorGroup
from dreamseed_cli.core.spelling import no_such_key
from dreamseed_cli.costsim.decisions.ranges import Ranges
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.plan.tables import extended
from dreamseed_cli.profile.load import load_profile

SCHEMA = {"properties": {"name": {}}, "$defs": {"Engine": {"properties": {"replicas": {}}}}}


def test_the_nearest_key_of_any_table_is_named() -> None:
    """It may stand in the wrong table; where none is near, the key is to go."""
    told = [no_such_key([key], place="f: x", schema=SCHEMA).remedy for key in ("replica", "nmae", "zzz")]
    assert told == ["Did you mean replicas?", "Did you mean name?", "Remove it, or mind the spelling."]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('[gateway.security.tls]\ncert = "a"', "certificate"),  # `docker` is nearer, of another table
        ("[engine]\nkind = 'vllm'\nreplica = 3", "replicas"),
        ("[gateway]\nreplica = 3", "replicas"),
    ],
)
def test_a_key_of_the_same_table_is_meant_first(tmp_path: Path, text: str, meant: str) -> None:
    """If none is near, one of another table."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ErrorGroup) as caught:
        load_profile(str(path))
    (told,) = (error for error in caught.value.causes() if error.cause == "there is no such key")
    assert f"Did you mean {meant}" in told.remedy


@pytest.mark.parametrize(
    ("read", "text", "place", "meant"),
    [
        (lambda path: load_profile(str(path)), "nmae = 1", "nmae", "name"),
        (lambda path: read_data(path, Ranges), "[scenraio]", "scenraio", "scenario"),
        (load_book, '[[estimate]]\nid = "x"\nqantity = "q"', "x.qantity", "quantity"),
        (lambda path: extended(path, None), '[x]\ntitel = "a"', "x.titel", "title"),
        (lambda path: extended(None, path), "[x]\nlayer = 3", "x.layer", "layers"),
        (lambda path: load_workload(str(path)), 'descriptoin = "a"', "descriptoin", "description"),
    ],
)
def test_every_reader_of_a_file_tells_it(
    tmp_path: Path, read: Callable[[Path], Any], text: str, place: str, meant: str
) -> None:
    """A profile, ranges of cost-sim, the document's figures, cards, models, a workload."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ErrorGroup) as caught:
        read(path)
    (told,) = (error for error in caught.value.causes() if error.place == f"{path}: {place}")
    assert told.cause == "there is no such key"
    assert f"Did you mean {meant}" in told.remedy
