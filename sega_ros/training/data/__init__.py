"""Licensed real data: loaders, tracking, and the one on-disk format that training reads."""
