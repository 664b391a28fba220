"""Keys, digests, signing and verifying; the only importer of cryptography and asn1crypto."""
