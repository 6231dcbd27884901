"""What a reader writes: replies and forwards, kept as drafts until they are sent."""
