"""The networks that the bundled trainer trains."""
