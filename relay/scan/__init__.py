"""The PHI scan (pure): text to findings and a verdict. Weights and lexicons are data; reading mail is elsewhere."""
