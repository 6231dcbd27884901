"""The portal: a secure page for those whom mail cannot reach safely. A process, a user and keys of its own."""
