"""The demo: the main job before your eyes, with a crash in the middle."""
