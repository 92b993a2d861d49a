"""Do picks and tomograms fit together: what lies at the picks, and which reading of their
coordinates fits best.
"""
