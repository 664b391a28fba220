"""Pack pjsua2.py and its extension: ``wheel.py VERSION LICENSE OUTDIR FILE...`` prints the path of the wheel.

The limits of config_site.h go into pjsua2.py as BUILD_LIMITS: the library tells nobody how it was built.
Written out by hand because setuptools need not be there, and a hook's network is not wanted here.
Source: Binary distribution format (PyPA specification), core metadata 2.1.
"""

import base64
import hashlib
import re
import sys
import sysconfig
import zipfile
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first date: the same input gives the same wheel


def main(version: str, licence: str, outdir: str, *files: str) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    abi = python + getattr(sys, "abiflags", "")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    tag = f"{python}-{abi}-{platform}"
    info = f"pjsua2-{version}.dist-info"

    members = {Path(f).name: Path(f).read_bytes() for f in files}
    site = Path(__file__).with_name("config_site.h").read_text()
    found = re.findall(r"^#define\s+(\w+)\s+(\d+)\b", site, re.MULTILINE)
    limits = {name: int(value) for name, value in found}
    members["pjsua2.py"] += f"\nBUILD_LIMITS = {limits!r}\n".encode()
    members[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: pjsua2\nVersion: {version}\n"
        "Summary: SIP user agent library based on PJSIP, with the limits that recorderd needs\n"
        f"License: GPL-2.0-or-later\nRequires-Python: =={sys.version_info.major}.{sys.version_info.minor}.*\n"
    ).encode()
    members[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: recorderd\nRoot-Is-Purelib: false\nTag: {tag}\n"
    ).encode()
    members[f"{info}/top_level.txt"] = b"_pjsua2\npjsua2\n"
    members[f"{info}/COPYING"] = Path(licence).read_bytes()

    record = ""
    for name, data in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    members[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()

    path = Path(outdir) / f"pjsua2-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if name.endswith(".so") else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            wheel.writestr(entry, data)
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
