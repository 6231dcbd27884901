"""What can be seen of a running Postern from outside: log, metrics, readiness and the audit trail's archiver."""
