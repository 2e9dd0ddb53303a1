"""Step before the steps: has anything changed since the last run that ended well?"""
