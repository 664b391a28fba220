"""Merkle trees: what holds for every tree, and the published values of certificate transparency."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.evidence.merkle import MerkleBuilder, inclusion_path, merkle_root, verify_inclusion

LEAVES = st.lists(st.binary(max_size=40), max_size=70)
# The leaves and roots with which implementations of RFC 6962 test themselves.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def by_definition(leaves: list[bytes]) -> bytes:
    """The recursive definition, word for word from RFC 9162 section 2.1.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    left, right = by_definition(leaves[:k]), by_definition(leaves[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def path_by_definition(m: int, leaves: list[bytes]) -> list[bytes]:
    """The recursive definition, word for word from RFC 9162 section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if m < k:
        return [*path_by_definition(m, leaves[:k]), by_definition(leaves[k:])]
    return [*path_by_definition(m - k, leaves[k:]), by_definition(leaves[:k])]


@pytest.mark.parametrize("size", range(len(CT_ROOTS)))
def test_the_published_roots_come_out(size: int) -> None:
    assert merkle_root(CT_LEAVES[:size]).hex() == CT_ROOTS[size]


@given(LEAVES)
def test_every_root_is_the_definitions(leaves: list[bytes]) -> None:
    builder = MerkleBuilder()
    for number, leaf in enumerate(leaves):
        assert builder.root() == by_definition(leaves[:number])
        builder.add(leaf)
    assert builder.root() == by_definition(leaves)
    assert builder.size_leaves == len(leaves)


@given(LEAVES.filter(bool), st.data())
def test_every_path_is_the_definitions_and_proves_its_leaf_alone(
    leaves: list[bytes], draw: st.DataObject
) -> None:
    index = draw.draw(st.integers(0, len(leaves) - 1))
    path, root = inclusion_path(leaves, index), by_definition(leaves)
    assert list(path) == path_by_definition(index, leaves)
    proof = {"index": index, "size_leaves": len(leaves), "path": path, "root": root}
    assert verify_inclusion(leaves[index], **proof)
    other = draw.draw(st.binary(max_size=80).filter(lambda leaf: leaf != leaves[index]))
    assert not verify_inclusion(other, **proof)
    assert not verify_inclusion(leaves[index], **{**proof, "root": bytes(32)})
    assert not verify_inclusion(leaves[index], **{**proof, "path": (*path, root)})
    if path:
        assert not verify_inclusion(leaves[index], **{**proof, "path": path[:-1]})
        at = draw.draw(st.integers(0, len(path) - 1))
        changed = bytes([path[at][0] ^ 1]) + path[at][1:]
        wrong = (*path[:at], changed, *path[at + 1 :])
        assert not verify_inclusion(leaves[index], **{**proof, "path": wrong})


@given(
    st.binary(max_size=70),
    st.integers(-2, 2**65),
    st.integers(-2, 2**65),
    st.lists(st.binary(min_size=30, max_size=33), max_size=70),
    st.binary(max_size=33),
)
def test_no_invented_proof_holds_or_breaks_anything(
    leaf: bytes, index: int, size_leaves: int, path: list[bytes], root: bytes
) -> None:
    assert not verify_inclusion(leaf, index=index, size_leaves=size_leaves, path=path, root=root)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_path_for_a_leaf_that_is_none(index: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_path([b"a", b"b", b"c"], index)


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    leaves = [b"a", b"b", b"c", b"d"]
    halves = [by_definition(leaves[:2]), by_definition(leaves[2:])]
    pretended = halves[0] + halves[1]
    assert not verify_inclusion(pretended, index=0, size_leaves=1, path=(), root=merkle_root(leaves))


def test_a_builder_holds_one_hash_per_doubling_of_its_leaves() -> None:
    builder = MerkleBuilder()
    for number in range(1, (1 << 12) + 1):
        builder.add(number.to_bytes(4, "big"))
        assert len(builder._peaks) == number.bit_count()
