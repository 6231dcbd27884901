"""What other domains publish about their mail servers' TLS: read, matched and remembered, without effects."""
