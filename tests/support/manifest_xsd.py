"""The XSD of the manifest's XML, written from the JSON Schema by `python -m tests.support.manifest_xsd`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import recorderd.wire
from recorderd.wire.manifest_xml import ENTRIES, NAMESPACE

FOLDER = Path(recorderd.wire.__file__).parent
SCHEMA, XSD = FOLDER / "manifest.schema.json", FOLDER / "manifest.xsd"
HEAD = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="{NAMESPACE}"
           targetNamespace="{NAMESPACE}" elementFormDefault="qualified">
  <xs:annotation><xs:documentation>
    A recording's manifest in XML, made from the signed JSON whose SHA-256 the root names. The JSON decides;
    this is for reading. Characters that XML cannot hold stand as U+FFFD.
  </xs:documentation></xs:annotation>
"""


def xsd_text(schema: dict[str, Any]) -> str:
    """Write the XSD."""
    parts = [HEAD]
    for name, row in schema["$defs"].items():
        parts += _complex(name, row) if row["type"] == "object" else _simple(name, row)
    root = [f"  {line}" for line in _sequence(schema)]
    digest = '      <xs:attribute name="manifest_sha256" type="sha256" use="required"/>'
    body = ["    <xs:complexType>", *root, digest, "    </xs:complexType>"]
    parts += ['  <xs:element name="recording">', _note(schema, "    "), *body, "  </xs:element>"]
    return "\n".join([*parts, "</xs:schema>", ""]).replace(HEAD + "\n", HEAD)


def _note(row: dict[str, Any], indent: str) -> str:
    text = escape(row["description"])
    return f"{indent}<xs:annotation><xs:documentation>{text}</xs:documentation></xs:annotation>"


def _complex(name: str, row: dict[str, Any]) -> list[str]:
    return [f'  <xs:complexType name="{name}">', _note(row, "    "), *_sequence(row), "  </xs:complexType>"]


def _sequence(table: dict[str, Any]) -> list[str]:
    lines = ["    <xs:sequence>"]
    for name, row in table["properties"].items():
        least = "" if name in table["required"] else ' minOccurs="0"'
        lines += _element(name, row, least, "      ")
    return [*lines, "    </xs:sequence>"]


def _element(name: str, row: dict[str, Any], least: str, indent: str) -> list[str]:
    if "$ref" in row:
        known = row["$ref"].rpartition("/")[2]
        head = f'{indent}<xs:element name="{name}" type="{known}"{least}'
        return (
            [f"{head}>", _note(row, f"{indent}  "), f"{indent}</xs:element>"] if _has(row) else [f"{head}/>"]
        )
    lines = [f'{indent}<xs:element name="{name}"{least}>']
    lines += [_note(row, f"{indent}  ")] if _has(row) else []
    if row.get("type") == "array":
        entry = _element(ENTRIES[name], row["items"], ' minOccurs="0" maxOccurs="unbounded"', f"{indent}    ")
        lines += [f"{indent}  <xs:complexType><xs:sequence>", *entry]
        lines += [f"{indent}  </xs:sequence></xs:complexType>"]
    else:
        lines += [f"{indent}  {line}" for line in _type(row)]
    return [*lines, f"{indent}</xs:element>"]


def _has(row: dict[str, Any]) -> bool:
    return "description" in row


def _simple(name: str, row: dict[str, Any]) -> list[str]:
    head, *rest = _type(row)
    named = head.replace("<xs:simpleType>", f'<xs:simpleType name="{name}">')
    return [f"  {named}", _note(row, "    "), *(f"  {line}" for line in rest)]


def _type(row: dict[str, Any]) -> list[str]:
    base = {"integer": "xs:integer", "boolean": "xs:boolean"}.get(row.get("type", ""), "xs:string")
    facets = []
    for word, facet in (("minimum", "minInclusive"), ("maximum", "maxInclusive"), ("maxLength", "maxLength")):
        if word in row:
            facets.append(f'<xs:{facet} value="{row[word]}"/>')
    if "pattern" in row:
        facets.append(f"<xs:pattern value={quoteattr(row['pattern'].removeprefix('^').removesuffix('$'))}/>")
    facets += [f'<xs:enumeration value="{value}"/>' for value in row.get("enum", ())]
    inner = [f"    {facet}" for facet in facets]
    return [
        "<xs:simpleType>",
        f'  <xs:restriction base="{base}">',
        *inner,
        "  </xs:restriction>",
        "</xs:simpleType>",
    ]


if __name__ == "__main__":
    XSD.write_text(xsd_text(json.loads(SCHEMA.read_text())))
