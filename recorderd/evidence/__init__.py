"""Keys, digests, signing and verifying; the only importer of cryptography, asn1crypto and pkcs11."""
