"""Keys, digests, signatures, time stamps; the only importer of cryptography, asn1crypto, rfc3161_client."""
