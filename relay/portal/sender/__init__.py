"""Pages for those who sent something: what became of it, and what they may still do about it."""
