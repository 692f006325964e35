"""The cascaded tanks benchmark"""
