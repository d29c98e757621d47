"""The end of a run: does the evidence agree?"""
