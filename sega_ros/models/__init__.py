"""The model: Gaussian maps, their binding to the head mesh, and the networks that predict them."""
