"""The names of a recording's files: every name tells whose it is.

Rule: what stands before a name's first dot is the recording's id, or ends in a hyphen and the id; so a name
can be told from another recording's without opening anything. Only the audio and what belongs to it make use
of the longer form (`<what the template says>-<id>.wav`); a draft's audio is `<id>.wav`. The rest is
`<id>.manifest.json`, `<id>.manifest.json.p7s`, `<id>.signer.pem`, `<id>.offer-<n>.sip` and, where a crash has
cut the call, `<id>.checkpoint.json` with `<id>.checkpoint.sig` and `.leaves`. An encrypted WAV
is `X.wav.p7m` or `X.wav.gpg`, in parts `X.wav.001.p7m` and so on; its signature is that of `X.wav`.
Where the manifest is encrypted as well, it is `<id>.manifest.json.p7m` (or `.gpg`), every other file has the
short form, and `<id>.index.json` with its signature says in clear what there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

NAME_LIMIT: Final = 128  # octets; what a link message carries
LISTENING_FOLDER: Final = "listen"  # within an export: copies for the ear, which are no evidence
CHECKPOINT_ROLES: Final = ("checkpoint", "checkpoint_signature", "checkpoint_leaves")
_FILE_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_LIMIT - 1}}}")
_AUDIO: Final = "wav"
_SIGNATURE: Final = ".p7s"
_STAMP: Final = ".tsr"  # of a signature
_ENVELOPE: Final = re.compile(r"(.+\.wav)(?:\.\d{3})?\.(?:p7m|gpg)")
ENVELOPE_SUFFIXES: Final = {"cms": ".p7m", "pgp": ".gpg"}
_INDEX: Final = ".index.json"


def manifest_name(recording_id: str) -> str:
    """Name a recording's manifest file."""
    return f"{recording_id}.manifest.json"


def index_name(recording_id: str) -> str:
    """Name what says in clear which files there are, where the manifest is encrypted."""
    return f"{recording_id}{_INDEX}"


def index_names(recording_id: str) -> tuple[str, ...]:
    """Name what only a recording with an encrypted manifest has, whatever it is encrypted with."""
    index, manifest = index_name(recording_id), manifest_name(recording_id)
    return (index, signature_name(index), *(f"{manifest}{suffix}" for suffix in ENVELOPE_SUFFIXES.values()))


def sealed_name(name: str, *, encryption: str) -> str:
    """Name the envelope of a file."""
    return f"{name}{ENVELOPE_SUFFIXES[encryption]}"


def opened_name(name: str) -> str:
    """Name what an envelope holds, of the audio all its parts; a file that is none keeps its name."""
    found = signed_name(name)
    return found if found != name else name.removesuffix(".p7m").removesuffix(".gpg")


def audio_name(recording_id: str) -> str:
    """Name a draft's WAV file; a sealed recording's manifest says how the WAV is called."""
    return f"{recording_id}.{_AUDIO}"


def offer_name(recording_id: str, number: int) -> str:
    """Name the attachment that keeps the ``number``-th offer, counted from 1."""
    return f"{recording_id}.offer-{number}.sip"


def signer_name(recording_id: str) -> str:
    """Name the file that carries the signer's certificate."""
    return f"{recording_id}.signer.pem"


def checkpoint_names(recording_id: str) -> tuple[str, str, str]:
    """Name a recovered recording's last checkpoint, its signature, and where keyed, its leaves."""
    stem = f"{recording_id}.checkpoint"
    return f"{stem}.json", f"{stem}.sig", f"{stem}.leaves"


def signature_name(name: str) -> str:
    """Name the detached signature of a file."""
    return f"{name}{_SIGNATURE}"


def listening_name(audio: str) -> str:
    """Name the copy for the ear of a recording's audio."""
    return f"{audio.removesuffix(f'.{_AUDIO}')}.listen.{_AUDIO}"


def signed_name(audio: str) -> str:
    """Name what an audio file's signature is over: the WAV that an encrypted one holds, else itself."""
    found = _ENVELOPE.fullmatch(audio)
    return audio if found is None else found[1]


def is_own_name(name: str, recording_id: str) -> bool:
    """Tell whether ``name`` is a plain file name, and of this recording."""
    stem = name.partition(".")[0]
    return _FILE_NAME.fullmatch(name) is not None and (
        stem == recording_id or stem.endswith(f"-{recording_id}")
    )


def is_audio_name(name: str, recording_id: str) -> bool:
    """Tell whether ``name`` may be that of the recording's audio, plain or encrypted."""
    rest = name.partition(".")[2]
    return (
        is_own_name(name, recording_id)
        and rest.partition(".")[0] == _AUDIO
        and not name.endswith((_SIGNATURE, _STAMP))
        and len(signature_name(signed_name(name)) + _STAMP) <= NAME_LIMIT
    )


def audio_among(names: Iterable[str], recording_id: str) -> tuple[str, ...]:
    """Find what the audio is called where no manifest tells: by itself or by its signature, sorted."""
    there = set(names)
    found = sorted(name for name in there if is_audio_name(name, recording_id))
    signed = {name.removesuffix(_SIGNATURE) for name in there if name.endswith(_SIGNATURE)}
    signed -= {signed_name(name) for name in found}
    return (*found, *sorted(name for name in signed if is_audio_name(name, recording_id)))


def required_names(recording_id: str, *, audio: str) -> tuple[str, ...]:
    """Name the files without which a recording cannot be verified; a tombstone has no ``audio``."""
    manifest = manifest_name(recording_id)
    small = (manifest, signature_name(manifest), signer_name(recording_id))
    return (*small, signature_name(signed_name(audio)), audio) if audio else small
