"""What sharpness measures see, and what follows the generalisation gap."""
