"""The scripts behind the figures: `python -m analysis_scripts.ROOM.SCRIPT` from the repository's root."""
