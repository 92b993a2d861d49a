"""How good labels and picks are: metrics, matching, curves and tests between methods."""
