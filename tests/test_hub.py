"""What a name means: a path that is there, a path that is not, a URI, or a name on the Hub."""

import sys
from pathlib import Path

import pytest

from jaxcram import hub
from jaxcram.errors import UserError


def test_an_existing_path_is_a_path_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    assert hub.local("texts", "s3://bucket") == Path("s3:/bucket")
    assert hub.local("texts", "~/s3:/bucket") == tmp_path / "s3:/bucket"
    assert hub.local("texts", tmp_path) == tmp_path
    for absent in ("", "absent", "~nobody-there/x", "a" * 5000, "\0", "owner/name", "c:x"):
        assert hub.local("texts", absent) is None


@pytest.mark.parametrize("uri", ["s3://b/x", "GS://b", "hf+x.1://a", "memory://"])
def test_a_uri_is_refused_under_the_name_of_its_setting(uri):
    with pytest.raises(UserError) as error:
        hub.local("model", uri)
    scheme = uri.split(":")[0].lower()
    assert str(error.value) == (
        f"model={uri}: {scheme}:// is not supported; use a local disk, and give a path there"
    )


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/a", True),
        ("./a", True),
        ("../a", True),
        ("~/a", True),
        ("a/b/c", True),
        ("a\\b", True),
        (".a", True),
        ("owner/name", False),
        ("name", False),
        ("", False),
    ],
)
def test_names_that_can_only_be_paths(name, path):
    assert hub.is_path(name) is path


def test_a_name_that_can_only_be_a_path_is_not_requested_from_the_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for name in ("models/a/b", "./m", "~/m", "m", "/m", "a b/c"):
        with pytest.raises(
            UserError, match=r"is neither a directory nor a Hub name \(owner/name\); check its path"
        ):
            hub.model_directory(name, ["*"])
