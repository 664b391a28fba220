"""The XML says what the manifest says, whatever stands in it: valid by its XSD, read by parsers not ours."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from recorderd.app.recorderctl import main as recorderctl
from recorderd.archive.verification import verify_bundle
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.spool.layout import Place, Spool
from recorderd.wire.manifest import Manifest, manifest_name, manifest_table, parse_manifest
from recorderd.wire.manifest_xml import ENTRIES, NAMESPACE, render_manifest, rendering_name
from recorderd.wire.names import is_own_name
from tests.support.bundles import ChainHead, make_recording, make_signer, make_tombstone
from tests.support.manifest_xsd import SCHEMA, XSD, xsd_text
from tests.support.manifests import manifests

SHA = "ab" * 32
GOLDEN = Path(__file__).parents[1] / "support" / "golden"


@cache
def _xsd() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(XSD))


def _render(manifest: Manifest) -> bytes:
    return render_manifest(manifest, manifest_sha256=SHA)


def test_the_xsd_is_the_schemas() -> None:
    assert XSD.read_text() == xsd_text(json.loads(SCHEMA.read_text()))


def test_the_published_files_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, path in ((["schema"], SCHEMA), (["schema", "--xsd"], XSD)):
        assert recorderctl(arguments) == 0
        assert capsys.readouterr().out == path.read_text()


@given(manifests())
def test_every_rendering_is_valid_and_says_what_the_manifest_says(manifest: Manifest) -> None:
    rendering = _render(manifest)
    document = etree.fromstring(rendering)
    assert _xsd().validate(document), _xsd().error_log
    root = ElementTree.fromstring(rendering)  # expat: another parser than libxml2
    assert root.tag == f"{{{NAMESPACE}}}recording" and root.attrib == {"manifest_sha256": SHA}
    assert _read(root, manifest_table(manifest)) == _plain(manifest_table(manifest))
    assert is_own_name(rendering_name(manifest), manifest.recording_id)


def _read(element: ElementTree.Element, like: Any, name: str = "") -> Any:
    """Read an element back into the shape of a manifest's table."""
    children = [(child.tag.removeprefix(f"{{{NAMESPACE}}}"), child) for child in element]
    if isinstance(like, dict):
        assert [tag for tag, _ in children] == list(like)
        return {tag: _read(child, like[tag], tag) for tag, child in children}
    if isinstance(like, list | tuple):
        assert [tag for tag, _ in children] == [ENTRIES[name]] * len(like)
        return [_read(child, row) for (_, child), row in zip(children, like, strict=True)]
    assert not children
    return element.text or ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(row) for name, row in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(row) for row in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(value))


@given(manifests(), st.data())
def test_the_xsd_refuses_a_rendering_that_lacks_or_adds_something(manifest: Manifest, data: Any) -> None:
    document = etree.fromstring(_render(manifest))
    required = [node for node in document if node.tag.endswith(("call", "sequence", "streams", "files"))]
    node = data.draw(st.sampled_from(required))
    if data.draw(st.booleans()):
        document.remove(node)
    else:
        node.addnext(etree.Element(f"{{{NAMESPACE}}}surplus"))
    assert not _xsd().validate(document)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sequence", "0"), ("surplus", "x"), ("recovered", "maybe"), ("channels", "65"), ("recorder_id", "a/b")],
)
def test_the_xsd_knows_the_bounds(name: str, value: str) -> None:
    document = etree.fromstring((GOLDEN / "manifest-4.xml").read_bytes())
    assert _xsd().validate(document), _xsd().error_log
    node = document.find(f"{{{NAMESPACE}}}{name}")
    if node is None:
        node = etree.SubElement(document, f"{{{NAMESPACE}}}{name}")
    node.text = value
    assert not _xsd().validate(document)


# --- beside a recording -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("keys"), "recorder")


@pytest.fixture(params=["recording", "tombstone"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, signer: Signer) -> Path:
    spool = Spool(tmp_path / "spool", quota_bytes=1 << 30)
    spool.prepare()
    if request.param == "tombstone":
        return spool.path(Place.READY, make_tombstone(spool, signer, chain=ChainHead()))
    return spool.path(Place.READY, make_recording(spool, signer))


def _render_beside(folder: Path) -> Path:
    raw = (folder / manifest_name(folder.name)).read_bytes()
    manifest = parse_manifest(raw)
    path = folder / rendering_name(manifest)
    path.write_bytes(render_manifest(manifest, manifest_sha256=sha256_bytes(raw)))
    return path


def _codes(folder: Path, signer: Signer) -> set[str]:
    trust = TrustStore.from_pem(signer.certificate_pem)
    return {finding.code for finding in verify_bundle(folder, trust).findings}


def test_a_rendering_beside_its_recording_is_known_and_one_that_differs_is_told(
    folder: Path, signer: Signer
) -> None:
    assert _codes(folder, signer) == set()
    path = _render_beside(folder)
    assert _codes(folder, signer) == set()
    wav = list(folder.glob("*.wav"))
    assert not wav or wav[0].stem == path.stem  # a system that wants X.wav and X.xml finds them
    whole = path.read_bytes()
    for wrong in (
        whole.replace(b"1001", b"1002"),
        whole + b"\n",
        whole[:-1],
        b"",
        whole.replace(b"  ", b" "),
    ):
        path.write_bytes(wrong)
        assert _codes(folder, signer) == {"rendering"}
    path.write_bytes(whole)
    path.rename(folder / "other.xml")
    assert _codes(folder, signer) == {"files"}


@pytest.mark.parametrize("version", [4, 5])
def test_the_form_of_the_rendering_is_as_it_always_was(version: int) -> None:
    """A changed form would make every exported XML look forged: give it a namespace of its own."""
    raw = (GOLDEN / f"manifest-{version}.json").read_bytes()
    rendering = render_manifest(parse_manifest(raw), manifest_sha256=sha256_bytes(raw))
    assert rendering == (GOLDEN / f"manifest-{version}.xml").read_bytes()
