"""Pure mail: reading and building headers, MIME, DSNs and notices."""
