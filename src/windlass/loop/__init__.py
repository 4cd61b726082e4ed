"""THE STORY: cycle.py (read this first) plans and settles; driver.py repeats, resumes and stops."""
