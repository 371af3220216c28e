"""Answers for any number of images: a source, one pass over it, and files of rows that a later run
continues.
"""
