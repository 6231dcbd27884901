"""Reading messages and their attachments: the scan engine, the helper process, and the service in front of both."""
