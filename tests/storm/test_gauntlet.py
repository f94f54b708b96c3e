"""The known bugs can still be put in; that each is caught is shown by `make gauntlet`."""

import shutil
from pathlib import Path

import pytest
from chaos.copies import ROOT
from chaos.gauntlet import BUGS, Bug, Edit, apply


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_bug_changes_the_code_as_it_is(bug: Bug, tmp_path: Path) -> None:
    """Its place is found once, what is changed still compiles, and its tests are there."""
    for name in {edit.file for edit in bug.edits}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for edit in bug.edits:
        apply(tmp_path, edit)
        compile((tmp_path / edit.file).read_text(), edit.file, "exec")

    assert all((ROOT / test).exists() for test in bug.tests if test.startswith("tests/"))


def test_a_bug_whose_place_is_gone_is_an_error(tmp_path: Path) -> None:
    """The code has moved on: somebody must look."""
    (tmp_path / "a.py").write_text("one\n")
    with pytest.raises(ValueError, match=r"a\.py has this 0 times: 'two'"):
        apply(tmp_path, Edit("a.py", "two", "three"))
