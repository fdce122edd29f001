"""Bridges to other packages: their call signatures on our algorithms, and theirs run beside ours."""
