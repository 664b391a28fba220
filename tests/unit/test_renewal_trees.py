"""One stamp that renews many: the way from each older stamp to the root must hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.core.errors import TimestampInvalid
from recorderd.evidence.merkle import inclusion_path, inclusion_paths, merkle_root
from recorderd.evidence.renewal import TreeRenewal, verify_renewals
from recorderd.evidence.timestamp import make_request
from recorderd.evidence.verify import TrustStore
from tests.support.tsa import StampingMachine, sha256_hex


def test_a_way_that_does_not_lead_to_the_stamped_root_is_refused(tmp_path: Path) -> None:
    older, newer = StampingMachine(tmp_path / "a"), StampingMachine(tmp_path / "b", days=(-1, 3000))
    digests = [sha256_hex(bytes([number])) for number in range(3)]
    stamps = [older.reply(make_request(sha256_hex=digest, nonce=1)) for digest in digests]
    leaves = [bytes.fromhex(sha256_hex(tsr)) for tsr in stamps]
    root = merkle_root(leaves).hex()
    tsr = newer.reply(make_request(sha256_hex=root, nonce=1))
    trust = TrustStore([older.root, newer.root])
    paths = inclusion_paths(leaves)
    for number, leaf in enumerate(leaves):
        assert paths[number] == inclusion_path(leaves, number)
        whole = TreeRenewal(
            tsr=tsr,
            stamp_sha256=leaf.hex(),
            leaf_index=number,
            tree_leaves=len(leaves),
            path=tuple(node.hex() for node in paths[number]),
            root_sha256=root,
        )
        how = {"sha256_hex": digests[number], "trust": trust, "subject": "x"}
        assert len(verify_renewals([stamps[number], whole], **how)) == 2  # type: ignore[arg-type]
        other = (number + 1) % 3
        for wrong, word in (
            (replace(whole, path=("ab" * 32, *whole.path[1:])), "does not lead to the root"),
            (replace(whole, path=whole.path[:-1]), "does not lead to the root"),
            (replace(whole, leaf_index=other), "does not lead to the root"),
            (replace(whole, stamp_sha256=leaves[other].hex()), "of another stamp"),
            (replace(whole, root_sha256="ab" * 32), "does not lead to the root"),
        ):
            with pytest.raises(TimestampInvalid, match=word):
                verify_renewals([stamps[number], wrong], **how)  # type: ignore[arg-type]
