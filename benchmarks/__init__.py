"""Speed as ratios against peers in one run, alternating, with medians and minima."""
