"""A simulated Internet on loopback, for the demo and tests: throw-away certificates, mail servers and DNS."""
