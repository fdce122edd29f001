"""What training rules do, step by step and at the end."""
