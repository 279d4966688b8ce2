"""From camera frames to FLAME expressions: landmarks, embedding, fit, smoothing and the tracker that joins them."""
