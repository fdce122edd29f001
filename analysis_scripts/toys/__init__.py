"""Small functions whose minima and paths are known in closed form."""
