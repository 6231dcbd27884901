"""The message as its reader sees it: shown, streamed and saved, never trusted."""
