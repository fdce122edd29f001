"""Loss slices along directions."""
