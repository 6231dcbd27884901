"""The queue in PostgreSQL: one database for the processes of several machines."""
