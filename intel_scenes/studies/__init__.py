"""From the records of runs to what they show."""
