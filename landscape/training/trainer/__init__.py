"""The bundled trainer: what a run is, the loop, and its folder."""
