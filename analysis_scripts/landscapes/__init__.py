"""What slices and maps of the loss can show."""
