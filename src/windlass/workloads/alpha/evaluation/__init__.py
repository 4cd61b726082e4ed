"""What a signal would have earned: walk-forward, next-open fills, costs, one continuous path."""
