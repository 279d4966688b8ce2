"""Training of the networks, and the data it reads."""
