"""The leaderboard: summaries with intervals, comparisons, markdown and HTML."""
