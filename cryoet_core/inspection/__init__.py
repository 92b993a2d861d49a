"""Whether picks and tomograms fit together: what lies at the picks, and which reading fits best."""
