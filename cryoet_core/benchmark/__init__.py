"""The benchmark: every method on the same data, one leaderboard beside the published tables.

``suite`` reads what is measured, ``plan`` makes cells of it, ``engine`` runs them as processes
(``cell``), ``results`` keeps what came out, ``summary`` makes means and tests of it, ``markdown``
and ``page`` the leaderboard.
"""
