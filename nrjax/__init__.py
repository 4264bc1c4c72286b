"""nrjax: photo-induced non-reciprocal magnetism, differentiable and batched."""
