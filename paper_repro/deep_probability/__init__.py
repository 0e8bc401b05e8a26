"""Calibrated probability estimation: does it help, and where?"""
