"""Keys, digests, signatures, stamps; sole importer of cryptography, asn1crypto, pkcs11, rfc3161_client."""
