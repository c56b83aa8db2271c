"""What needs both stages: a video or a camera through a run's backbone and head, and frames for a report's gallery.

Nothing imports this package but the commands that need it, when they run: `heads report --videos` and `heads watch`.
"""
