"""A missing optional package is named together with the extra that brings it."""

import sys

import pytest

from jaxcur import _base


def test_an_installed_module_is_returned():
    assert _base.import_extra("json.decoder", "frames") is sys.modules["json.decoder"]


def test_a_missing_package_names_the_extra():
    with pytest.raises(ModuleNotFoundError, match=r'pip install "jaxcur\[plots\]"'):
        _base.import_extra("no_such_package.module", "plots")


def test_a_fault_inside_the_package_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import another_missing_one\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="another_missing_one") as caught:
        _base.import_extra("broken_package", "plots")
    assert "optional dependency" not in str(caught.value)
